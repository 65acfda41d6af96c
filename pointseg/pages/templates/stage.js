// A place in a page where points are seen: a canvas with its camera, drawn on demand, and which point was clicked on.
// What the points are, and their colours, is decided by the page: viewer.js of a report, page.js of the service.
"use strict";
const pointsegStage = (() => {
  const SLOW = 50, FEWEST = 10000; // ms a frame; points
  const VIEWS = { behind: [-28, 0, 20], above: [-0.01, 0, 75] }; // metres; above a little behind, so that ahead is up
  const REACH = 8, STILL = 4; // pixels: from a click to its point, and that a click may move

  class Stage {
    budget = 1e7; // points drawn while the view moves
    pending = false;
    holding = false;
    resting = 0;

    // Puts a canvas into the element; throws where there is no WebGL. `picked(i)` follows a click on point i.
    constructor(element, picked) {
      this.element = element;
      this.points = new pointsegPoints.PointCanvas(() => this.redraw());
      const canvas = (this.canvas = this.points.canvas);
      canvas.tabIndex = 0;
      canvas.setAttribute("role", "img");
      element.append(canvas);
      this.camera = new pointsegPoints.Orbit(canvas, () => this.moved(), (down) => {
        this.holding = down;
        if (!down) this.rest();
      });
      let pressed = null;
      canvas.addEventListener("pointerdown", (event) => { pressed = [event.clientX, event.clientY]; });
      canvas.addEventListener("pointerup", (event) => {
        if (!pressed || Math.hypot(event.clientX - pressed[0], event.clientY - pressed[1]) >= STILL) return;
        const found = this.at(event.clientX, event.clientY);
        if (found >= 0) picked(found);
      });
      this.camera.lookFrom(...VIEWS.behind);
      this.resize();
      new ResizeObserver(() => { this.resize(); this.redraw(); }).observe(element);
    }

    resize() {
      this.points.resize(this.element.clientWidth, this.element.clientHeight);
    }

    look(view) {
      this.camera.lookFrom(...VIEWS[view]);
      this.redraw();
    }

    // ---- drawing: a slow machine draws fewer points while the view moves, and all when it rests ---------------------
    redraw() {
      this.points.draw(this.camera.matrix());
    }

    rest() {
      clearTimeout(this.resting);
      this.resting = setTimeout(() => { if (!this.holding) this.redraw(); }, 250);
    }

    moved() {
      if (this.pending) return;
      this.pending = true;
      requestAnimationFrame((began) => {
        this.pending = false;
        this.points.draw(this.camera.matrix(), Math.round(this.budget)); // in random order: the first are a fair picture
        requestAnimationFrame((ended) => this.adapt(ended - began)); // not to the next move: that waits for the hand
        this.rest();
      });
    }

    adapt(took) {
      if (took > SLOW) this.budget = Math.max(FEWEST, 0.6 * Math.min(this.budget, this.points.count));
      else if (took < 0.5 * SLOW) this.budget = Math.min(1.2 * this.budget, 1e7);
    }

    // ---- the visible point at a place of the window, what is nearer to the eye first; -1 where there is none ----------
    at(x, y) {
      const box = this.canvas.getBoundingClientRect(), e = this.camera.matrix(), { positions, tints, step } = this.points;
      let best = -1, nearest = Infinity;
      for (let i = 0; i < this.points.count; i++) {
        if (!tints[4 * i + 3]) continue;
        const a = positions[3 * i] * step, b = positions[3 * i + 1] * step, c = positions[3 * i + 2] * step;
        const w = e[3] * a + e[7] * b + e[11] * c + e[15];
        if (w <= 0) continue;
        const u = ((e[0] * a + e[4] * b + e[8] * c + e[12]) / w + 1) * 0.5 * box.width - (x - box.left);
        const v = (1 - (e[1] * a + e[5] * b + e[9] * c + e[13]) / w) * 0.5 * box.height - (y - box.top);
        const score = u * u + v * v + 0.2 * w;
        if (u * u + v * v < REACH * REACH && score < nearest) { nearest = score; best = i; }
      }
      return best;
    }

    // metres, as text: "12.30, -4.05, -1.70"
    place(i) {
      return [0, 1, 2].map((k) => (this.points.positions[3 * i + k] * this.points.step).toFixed(2)).join(", ");
    }

    // frames a second over n views around the scan, all points drawn, each frame waited for
    measure(n) {
      const { camera, points: { gl } } = this, pixel = new Uint8Array(4), start = performance.now();
      const { target, azimuth, polar, distance } = camera;
      for (let i = 0; i < n; i++) {
        camera.lookFrom(34 * Math.cos(0.1 * i), 34 * Math.sin(0.1 * i), 20);
        this.redraw();
        gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);
      }
      const rate = (1000 * n) / (performance.now() - start);
      Object.assign(camera, { target, azimuth, polar, distance });
      this.redraw();
      return rate;
    }
  }

  return { Stage };
})();
