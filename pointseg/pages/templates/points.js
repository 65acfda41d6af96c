// Points drawn on a canvas, and the camera that goes round them, in plain WebGL. stage.js puts both into a page.
"use strict";
const pointsegPoints = (() => {
  const FIELD = 50 * (Math.PI / 180), NEAR = 0.3, FAR = 1500; // of view, from top to bottom; what is seen, in metres
  const CLOSEST = 0.5, FARTHEST = 1000; // from the target, in metres
  const BACKGROUND = [17 / 255, 20 / 255, 23 / 255];
  const KEY = 10; // an arrow key is a drag over so many pixels
  const ARROWS = { ArrowLeft: [KEY, 0], ArrowRight: [-KEY, 0], ArrowUp: [0, KEY], ArrowDown: [0, -KEY] };
  const NOTCH = 1.1; // how many times as far a notch of the wheel, or a key, takes the camera
  const ZOOMS = { "+": 1 / NOTCH, "=": 1 / NOTCH, "-": NOTCH, "_": NOTCH }; // = and _ are on the same keys as + and -
  const LINE = 16, PAGE = 100, PINCH = 10; // pixels, for wheels that count otherwise; a touchpad's pinch comes in crumbs
  const VERTEX = `
    attribute vec3 position; attribute vec4 tint;
    uniform mat4 matrix; uniform float step; uniform float size;
    varying vec3 seen;
    void main() {
      seen = tint.rgb;
      gl_Position = tint.a < 0.5 ? vec4(2.0, 2.0, 2.0, 1.0) : matrix * vec4(position * step, 1.0); // hidden: out of view
      gl_PointSize = size;
    }`;
  const FRAGMENT = "precision mediump float; varying vec3 seen; void main() { gl_FragColor = vec4(seen, 1.0); }";
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];

  // A camera that looks at a target from a distance, z up. Angles, not a position, are kept: so it can neither drift off
  // its sphere nor lose what is up at the poles. `moved()` follows each change by hand, `held(down)` each grip.
  class Orbit {
    target = [0, 0, 0];
    azimuth = 0; // from x to y
    polar = 0; // from z down
    distance = 1;
    arrowsTurn = false; // arrow keys move, and turn with Shift; or the other way round

    constructor(canvas, moved, held) {
      this.canvas = canvas;
      const down = new Map(); // by pointer: where it was last
      let panning = false;
      const grip = (event) => {
        if (event.button === 1) return; // the browser's own scrolling
        panning = event.button === 2 || event.shiftKey;
        down.set(event.pointerId, [event.clientX, event.clientY]);
        canvas.setPointerCapture(event.pointerId);
        held(true);
      };
      const drag = (event) => {
        const was = down.get(event.pointerId), now = [event.clientX, event.clientY];
        if (!was) return;
        const other = [...down].find(([id]) => id !== event.pointerId)?.[1], dx = now[0] - was[0], dy = now[1] - was[1];
        down.set(event.pointerId, now);
        if (other) {
          const apart = (at) => Math.max(Math.hypot(at[0] - other[0], at[1] - other[1]), 1);
          this.zoom(apart(was) / apart(now));
          this.pan(dx / 2, dy / 2); // as far as the middle between the fingers
        } else if (panning) this.pan(dx, dy);
        else this.turn(dx, dy);
        moved();
      };
      const release = (event) => {
        if (down.delete(event.pointerId) && !down.size) held(false);
      };
      const wheel = (event) => {
        event.preventDefault(); // neither page nor browser scrolls or zooms along
        const pixels = event.deltaY * [1, LINE, PAGE][event.deltaMode] * (event.ctrlKey ? PINCH : 1);
        this.zoom(NOTCH ** (pixels / 100));
        moved();
      };
      const press = (event) => {
        if (event.ctrlKey || event.metaKey || event.altKey) return; // the browser's own
        const arrow = ARROWS[event.key], zoom = ZOOMS[event.key];
        if (!arrow && !zoom) return;
        event.preventDefault();
        if (zoom) this.zoom(zoom);
        else if (event.shiftKey !== this.arrowsTurn) this.turn(...arrow);
        else this.pan(...arrow);
        moved();
      };
      const handlers = { pointerdown: grip, pointermove: drag, pointerup: release, pointercancel: release, keydown: press,
                         wheel, contextmenu: (event) => event.preventDefault() };
      for (const [name, handler] of Object.entries(handlers)) canvas.addEventListener(name, handler, { passive: false });
    }

    lookFrom(x, y, z) {
      this.target = [0, 0, 0];
      this.distance = Math.hypot(x, y, z);
      this.azimuth = Math.atan2(y, x);
      this.polar = Math.acos(z / this.distance);
    }

    // What is dragged by some pixels follows the pointer; the height of the canvas is a whole turn.
    turn(dx, dy) {
      const angle = (2 * Math.PI) / this.canvas.clientHeight;
      this.azimuth -= angle * dx;
      this.polar = clamp(this.polar - angle * dy, 0, Math.PI); // not over the top, where left would be right
    }

    pan(dx, dy) {
      const { right, up } = this.axes(), metres = (2 * this.distance * Math.tan(FIELD / 2)) / this.canvas.clientHeight;
      this.target = this.target.map((value, k) => value + metres * (dy * up[k] - dx * right[k]));
    }

    zoom(times) {
      this.distance = clamp(times * this.distance, CLOSEST, FARTHEST);
    }

    axes() {
      const c = Math.cos(this.azimuth), s = Math.sin(this.azimuth), p = Math.cos(this.polar), q = Math.sin(this.polar);
      return { right: [-s, c, 0], up: [-p * c, -p * s, q], back: [q * c, q * s, p] };
    }

    get position() {
      return this.axes().back.map((value, k) => this.target[k] + this.distance * value);
    }

    // From metres to what WebGL clips, column by column.
    matrix() {
      const { right, up, back } = this.axes(), eye = this.position;
      const lens = 1 / Math.tan(FIELD / 2), aspect = this.canvas.clientWidth / Math.max(this.canvas.clientHeight, 1);
      const row = (axis, scale, shift = 0) => [...axis.map((value) => scale * value), shift - scale * dot(axis, eye)];
      const rows = [
        row(right, lens / aspect), row(up, lens),
        row(back, (FAR + NEAR) / (NEAR - FAR), (2 * FAR * NEAR) / (NEAR - FAR)), row(back, -1),
      ];
      return [0, 1, 2, 3].flatMap((column) => rows.map((values) => values[column]));
    }
  }

  // A canvas of points; throws where there is no WebGL. `restored()` follows when a lost context is whole again.
  class PointCanvas {
    positions = new Int16Array(0); // kept here too: a lost context loses its buffers
    tints = new Uint8Array(0);
    step = 0.01; // metres
    size = 2; // pixels of the page

    constructor(restored) {
      this.canvas = document.createElement("canvas");
      // the buffer is kept, so that printing has the picture
      this.gl = this.canvas.getContext("webgl", { alpha: false, antialias: false, preserveDrawingBuffer: true });
      if (!this.gl) throw new Error("no WebGL");
      this.canvas.addEventListener("webglcontextlost", (event) => event.preventDefault()); // else none is restored
      this.canvas.addEventListener("webglcontextrestored", () => { this.build(); restored(); });
      this.build();
    }

    get count() {
      return this.positions.length / 3;
    }

    build() {
      const { gl } = this, program = gl.createProgram();
      for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
        const shader = gl.createShader(kind);
        gl.shaderSource(shader, source);
        gl.compileShader(shader);
        gl.attachShader(program, shader);
      }
      gl.linkProgram(program);
      const linked = gl.getProgramParameter(program, gl.LINK_STATUS) || gl.isContextLost();
      if (!linked) throw new Error(gl.getProgramInfoLog(program)); // else the canvas would stay black in silence
      gl.useProgram(program);
      gl.enable(gl.DEPTH_TEST);
      gl.clearColor(...BACKGROUND, 1);
      this.uniforms = Object.fromEntries(["matrix", "step", "size"].map((name) => [name, gl.getUniformLocation(program, name)]));
      const attribute = (name, size, type, normalised) => {
        const buffer = gl.createBuffer(), place = gl.getAttribLocation(program, name);
        gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
        gl.enableVertexAttribArray(place);
        gl.vertexAttribPointer(place, size, type, normalised, 0, 0);
        return buffer;
      };
      this.buffers = [attribute("position", 3, gl.SHORT, false), attribute("tint", 4, gl.UNSIGNED_BYTE, true)];
      this.upload(0, this.positions);
      this.upload(1, this.tints);
    }

    upload(which, values) {
      this.gl.bindBuffer(this.gl.ARRAY_BUFFER, this.buffers[which]);
      this.gl.bufferData(this.gl.ARRAY_BUFFER, values, this.gl.STATIC_DRAW);
    }

    // (N, 3) whole steps of so many metres; they are seen once they have tints.
    setPoints(positions, step) {
      this.positions = positions;
      this.step = step;
      this.upload(0, positions);
      this.setTints(new Uint8Array(4 * this.count));
    }

    // (N, 4) red, green, blue, and 0 for what is hidden
    setTints(tints) {
      this.tints = tints;
      this.upload(1, tints);
    }

    resize(width, height) {
      this.ratio = Math.min(window.devicePixelRatio || 1, 2);
      this.canvas.width = Math.round(width * this.ratio);
      this.canvas.height = Math.round(height * this.ratio);
    }

    draw(matrix, count = this.count) {
      const { gl, uniforms } = this;
      if (gl.isContextLost()) return;
      gl.viewport(0, 0, this.canvas.width, this.canvas.height);
      gl.uniformMatrix4fv(uniforms.matrix, false, matrix);
      gl.uniform1f(uniforms.step, this.step);
      gl.uniform1f(uniforms.size, this.size * this.ratio);
      gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
      gl.drawArrays(gl.POINTS, 0, Math.min(count, this.count));
    }
  }

  return { Orbit, PointCanvas };
})();
