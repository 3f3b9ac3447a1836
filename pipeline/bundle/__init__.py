"""What an app team takes as it is: a file, what it needs, and programs that check themselves."""
