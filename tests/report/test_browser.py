"""The report in a real headless Chromium: no error, every picture seen, every control used by keyboard."""

import shutil

import pytest

from pipeline.compilers.browser import browser
from pipeline.report.page.report import html, page_of
from tests.support.chromium import chromium
from tests.support.reported import add_the_rest, measured_run

SHOWN = "[...document.querySelectorAll('img')].every((one) => one.complete && one.naturalWidth > 0)"
HERE = "document.activeElement.name || document.activeElement.textContent"
CLIP = "getComputedStyle(document.querySelectorAll('.stage img')[1]).clipPath"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    home = tmp_path_factory.mktemp("browser")
    run, artifact, _ = measured_run(home)
    add_the_rest(run, artifact)
    (path := home / "report.html").write_text(html(page_of([run.path], "1.2")))
    return path


@pytest.fixture(scope="module")
def tab():
    if browser() is None:
        pytest.skip("no browser: install chromium")
    with chromium() as opened:
        yield opened


def to(tab, name):
    """Goes on with the Tab key to a control, as somebody without a mouse does."""
    for _ in range(60):
        tab.press("Tab")
        if tab(HERE) == name:
            return
    raise AssertionError(f"the Tab key never comes to {name}")


@pytest.mark.real
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_fails_everything_is_seen_and_nothing_is_wider_than_the_page(tab, file, width, dark):
    tab.open(file, width, dark)
    assert tab.problems == []
    assert tab("document.images.length") >= 5 and tab(SHOWN)
    assert tab("document.documentElement.scrollWidth") <= width
    assert tab("document.querySelectorAll('svg').length") >= 8
    seen = "[...document.querySelectorAll('.chart svg')].filter((one) => one.getClientRects().length)"
    assert tab(f"{seen}.length") * 2 == tab("document.querySelectorAll('.chart svg').length")  # one of each two
    assert tab(f"{seen}.every((one) => one.getBoundingClientRect().width <= {width})")
    assert {url.partition(":")[0] for url in tab.requests} <= {"file", "data", "about"}


@pytest.mark.real
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_and_charts_stand_out_from_the_page(tab, file, dark):
    """At least 4.5 times as bright or dark for text, 3 times for marks (WCAG 2.2, 1.4.3 and 1.4.11)."""
    tab.open(file, 1200, dark)
    names = ["ink", "muted", "accent", "good", "bad", *(f"series-{n}" for n in range(6))]
    colours = {name: colour(tab, name) for name in ["paper", "panel", *names]}
    for name in names:
        for ground in ("paper", "panel"):
            assert contrast(colours[name], colours[ground]) >= (3 if name.startswith("series") else 4.5), (name, ground)
    painted = tab("getComputedStyle(document.querySelector('.chart .wide text')).fill")
    assert [int(part) for part in painted.strip("rgb()").split(",")] == colours["ink"]
    assert tab("getComputedStyle(document.body).backgroundColor") == f"rgb({', '.join(map(str, colours['paper']))})"


def colour(tab, name):
    text = tab(f"getComputedStyle(document.documentElement).getPropertyValue('--{name}').trim()")
    return [int(text[i : i + 2], 16) for i in (1, 3, 5)]


def contrast(first, second):
    def luminance(rgb):
        linear = [c / 12.92 if (c := v / 255) <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for v in rgb]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.real
def test_the_controls_work_by_keyboard(tab, file):
    tab.open(file)
    to(tab, "image")
    before = tab("document.querySelector('.stage img').src")
    tab.press("End")
    assert tab("document.querySelector('.stage img').src") != before
    to(tab, "left")
    tab.press("Home")
    assert tab("document.querySelectorAll('.stage img')[1].src === document.querySelectorAll('.stage img')[0].src")
    to(tab, "only")
    to(tab, "split")
    assert tab(CLIP) == "inset(0px 50% 0px 0px)"
    tab.press("ArrowRight", 3)
    assert tab(CLIP) == "inset(0px 47% 0px 0px)"
    to(tab, "opacity")
    tab.press("Home")
    assert tab("document.querySelectorAll('.stage img')[2].style.opacity") == "0"
    to(tab, "Blink")
    tab.press(" ")
    assert tab("document.activeElement.getAttribute('aria-pressed')") == "true" and tab(CLIP) == "none"
    hidden = "[...document.querySelectorAll('.stage img')].slice(1).map((one) => one.style.visibility).join()"
    seen = tab(f"""new Promise((done) => {{
        const seen = new Set();
        const look = setInterval(() => {{ seen.add({hidden}); if (seen.size > 1) done([...seen].sort()); }}, 50);
        setTimeout(() => done([...seen].sort()), 5000);
    }})""")
    assert seen == ["hidden,visible", "visible,hidden"]
    tab.press("Enter")
    assert tab("document.activeElement.getAttribute('aria-pressed')") == "false"
    assert tab.problems == []


@pytest.mark.real
def test_one_class_alone_is_seen_without_its_colour(tab, file):
    """The pixels that the viewer shows are those that have the class's colour in the mask."""
    tab.open(file)
    counted = """new Promise((done) => {
        const only = document.querySelector('[name=only]'), mask = document.querySelectorAll('.picture img')[2];
        const shown = document.querySelectorAll('.stage img')[1];
        const pixels = (image) => {
            const canvas = document.createElement('canvas');
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            canvas.getContext('2d').drawImage(image, 0, 0);
            return canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        };
        const colours = pixels(mask), wanted = only.options[PLACE].value.split(',').map(Number);
        let expected = 0, seen = 0;
        for (let i = 0; i < colours.length; i += 4) expected += wanted.every((value, k) => colours[i + k] === value);
        only.value = only.options[PLACE].value;
        shown.addEventListener('load', () => {
            const data = pixels(shown);
            for (let i = 0; i < data.length; i += 4) {
                seen += data[i + 3] === 255 && data[i] === 213 && data[i + 1] === 94 && data[i + 2] === 0;
            }
            done([expected, seen, data.length / 4]);
        }, {once: true});
        only.dispatchEvent(new Event('change'));
    })"""
    several = [tab(counted.replace("PLACE", str(place))) for place in (1, 2, 3, 4, 5)]
    assert all(expected == seen for expected, seen, _ in several)
    assert sum(seen for _, seen, _ in several) == several[0][2] and max(seen for _, seen, _ in several) > 0


@pytest.mark.real
def test_the_classes_of_a_pixel_are_those_of_the_masks(tab, file):
    tab.open(file)
    text = tab("""(() => {
        const stage = document.querySelector('.stage'), place = stage.getBoundingClientRect();
        const at = {clientX: place.left + 1, clientY: place.top + 1, bubbles: true};
        stage.dispatchEvent(new PointerEvent('pointermove', at));
        return document.querySelector('.readout').textContent;
    })()""")
    assert text.startswith("label: ") and "float: " in text and "artifact: " in text and "unknown" not in text


@pytest.mark.real
def test_it_prints_without_controls_and_with_all_pictures(tab, file, tmp_path):
    tab.open(file)
    tab.print(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes()[:5] == b"%PDF-"
    tab("dispatchEvent(new Event('beforeprint'))")
    closed = "[...document.querySelectorAll('details:not([open])')].filter((one) => !one.closest('#provenance')).length"
    assert tab(closed) == 0
    tab("dispatchEvent(new Event('afterprint'))")
    assert tab(closed) > 0


@pytest.mark.real
def test_without_its_script_the_page_shows_the_same(tab, file, tmp_path):
    text = file.read_text()
    start, end = text.index("<script>"), text.index("</script>")
    (still := tmp_path / "still.html").write_text(text[:start] + "<script>alert(1)" + text[end:])  # of another hash
    before = len(tab.problems)
    tab.open(still)
    assert any("Content Security Policy" in problem for problem in tab.problems[before:])
    del tab.problems[before:]
    assert tab("document.querySelectorAll('.viewer').length") == 0 and tab(SHOWN)
    shutil.rmtree(tmp_path, ignore_errors=True)
