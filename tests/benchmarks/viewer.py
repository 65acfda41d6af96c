"""How fast the viewer of a report draws, in headless Chromium without a GPU: python tests/benchmarks/viewer.py PAGE..."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
# turns the view with the mouse for four seconds, as fast as frames come
TURN = """async () => {
  const canvas = document.querySelector("#viewer canvas"), seconds = 4;
  canvas.scrollIntoView({ block: "center" }); // what is out of sight is not waited for
  const y = canvas.getBoundingClientRect().top + 200;
  canvas.setPointerCapture = canvas.releasePointerCapture = () => {};
  const send = (kind, x) => canvas.dispatchEvent(new PointerEvent(kind, {
    pointerId: 1, pointerType: "mouse", button: 0, buttons: 1, bubbles: true, clientX: x, clientY: y }));
  let frames = 0, x = 200;
  send("pointerdown", x);
  const start = performance.now();
  while (performance.now() - start < 1000 * seconds) {
    send("pointermove", (x += 2));
    await new Promise(requestAnimationFrame);
    frames++;
  }
  send("pointerup", x);
  return frames / seconds;
}"""


def main(pages: list[str]) -> None:
    chromium = shutil.which("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        for name in pages:
            file = Path(name).resolve()
            page = browser.new_page(viewport={"width": 1300, "height": 900})
            began = time.perf_counter()
            page.goto(file.as_uri())
            opened = time.perf_counter() - began
            points = page.evaluate("pointsegViewer.state().drawn")
            all_points = sorted(page.evaluate("pointsegViewer.measure(15)") for _ in range(3))[1]
            turning = page.evaluate(TURN)
            size = file.stat().st_size / 1e6
            print(
                f"{name}: {size:.1f} MB, opened in {opened:.1f} s; {points:,} points: {all_points:.1f} frames/s with all of them, "
                f"{turning:.1f} while the mouse turns the view"
            )
            page.close()
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1:])
