// A cloud from above on a canvas: ahead is up, higher points over lower ones, the sensor in the middle.
"use strict";
const pointsegPicture = (() => {
  const EDGE = 1024, REACH = 50, DOT = 2; // pixels; metres shown each way; pixels of a point
  const BACKGROUND = [17, 20, 23];
  const SCALE = EDGE / (2 * REACH);

  // Red, green, blue as one number whose bytes are those of a pixel, little-endian as every browser's machine is.
  const packed = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;

  // xyz (N * columns) metres; colour(i): of point i, packed, or 0 for what is hidden.
  const draw = (canvas, xyz, columns, count, colour) => {
    canvas.width = canvas.height = EDGE;
    const context = canvas.getContext("2d"), image = context.createImageData(EDGE, EDGE);
    const pixels = new Uint32Array(image.data.buffer);
    const heights = new Float32Array(EDGE * EDGE).fill(-Infinity);
    pixels.fill(packed(BACKGROUND));
    for (let i = 0; i < count; i++) {
      const value = colour(i);
      if (!value) continue;
      const column = Math.floor(EDGE / 2 - SCALE * xyz[columns * i + 1]), row = Math.floor(EDGE / 2 - SCALE * xyz[columns * i]);
      if (!(column >= 0 && row >= 0 && column <= EDGE - DOT && row <= EDGE - DOT)) continue; // NaN as well
      const z = xyz[columns * i + 2];
      for (let dy = 0; dy < DOT; dy++) {
        for (let dx = 0; dx < DOT; dx++) {
          const at = (row + dy) * EDGE + column + dx;
          if (z > heights[at]) { heights[at] = z; pixels[at] = value; }
        }
      }
    }
    context.putImageData(image, 0, 0);
    furnish(context);
  };

  // The sensor, and ten metres.
  const furnish = (context) => {
    context.fillStyle = context.strokeStyle = "#ffffff";
    context.beginPath();
    for (const [x, y] of [[0, -11], [8, 8], [-8, 8]]) context.lineTo(EDGE / 2 + x, EDGE / 2 + y);
    context.fill();
    context.lineWidth = 3;
    context.beginPath();
    context.moveTo(EDGE - 30 - 10 * SCALE, EDGE - 30);
    context.lineTo(EDGE - 30, EDGE - 30);
    context.stroke();
    context.font = "20px system-ui, sans-serif";
    context.textAlign = "center";
    context.fillText("10 m", EDGE - 30 - 5 * SCALE, EDGE - 42);
  };

  return { draw, packed };
})();
