"""Makes docs/images/page.png from a running service, with the Chromium of the system: python docs/images/page.py URL"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
KEYS = ("ArrowDown",) * 2 + ("ArrowRight",) * 2 + ("+",) * 3  # lower, from the left, nearer


def main(url: str) -> None:
    file = Path(__file__).with_suffix(".png")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        page = browser.new_page(viewport={"width": 1360, "height": 860}, color_scheme="light")
        page.goto(url)
        page.click("#sample")
        page.wait_for_selector("body[data-state=shown]:not([aria-busy])", timeout=120_000)
        page.focus("#stage canvas")
        for key in KEYS:
            page.keyboard.press(key)
        page.wait_for_timeout(2000)
        page.evaluate("document.activeElement.blur()")
        page.screenshot(path=file)
        browser.close()
    with Image.open(file) as picture:
        picture.convert("RGB").quantize(255).save(file, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
