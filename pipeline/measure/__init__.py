"""Scores, times, and what lies behind them."""
