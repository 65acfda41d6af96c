// The viewer of a report: one scan at a time as points, coloured by truth, prediction or error, on the stage of
// stage.js; classes are switched by the buttons of the legend. `pointsegViewer` is for tests and measurements.
"use strict";
(() => {
  const root = document.getElementById("viewer");
  if (!root) return;
  const data = JSON.parse(document.getElementById("viewer-data").textContent);
  const find = (name) => root.querySelector(`[data-part="${name}"]`);
  const legend = find("legend"), note = find("note");
  const RIGHT = [92, 97, 104], WRONG = [255, 72, 56], UNLABELLED = [54, 56, 60];
  const decode = (text, Kind) => new Kind(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);

  let stage;
  try {
    stage = new pointsegStage.Stage(find("stage"), (i) => {
      note.textContent = `Point at ${stage.place(i)} m: truth ${data.names[scan.truth[i]]}, `
        + `prediction ${data.names[scan.prediction[i]]}.`;
    });
  } catch (error) {
    find("stage").textContent = "This browser shows no WebGL, which the viewer needs. The rest of the page works without.";
    return;
  }
  const { points, camera } = stage;
  const state = { scan: 0, mode: "truth", hidden: new Set(), drawn: 0 };
  const decoded = data.scans.map(() => null);
  let scan;

  // ---- what is shown ----------------------------------------------------------------------------------------------
  const load = (number) => {
    const given = data.scans[number];
    if (!decoded[number]) {
      decoded[number] = {
        count: given.points, step: given.step, xyz: decode(given.xyz, Int16Array),
        truth: decode(given.truth, Uint8Array), prediction: decode(given.prediction, Uint8Array),
      };
    }
    state.scan = number;
    scan = decoded[number];
    points.setPoints(scan.xyz, scan.step);
    show();
  };
  // The class by which the legend switches a point: the one that colours it, or that an error was made on.
  const classes = () => (state.mode === "prediction" ? scan.prediction : scan.truth);
  const colour = (i) => {
    if (state.mode !== "errors") return data.colors[classes()[i]];
    if (scan.truth[i] === 0) return UNLABELLED;
    return scan.truth[i] === scan.prediction[i] ? RIGHT : WRONG;
  };
  const show = () => {
    const out = new Uint8Array(4 * scan.count), ids = classes();
    const counts = new Array(data.names.length).fill(0);
    state.drawn = 0;
    for (let i = 0; i < scan.count; i++) {
      const seen = !state.hidden.has(ids[i]), rgb = colour(i);
      const counted = state.mode !== "errors" || (scan.truth[i] !== 0 && scan.truth[i] !== scan.prediction[i]);
      if (counted) counts[ids[i]]++;
      state.drawn += seen;
      out[4 * i] = rgb[0]; out[4 * i + 1] = rgb[1]; out[4 * i + 2] = rgb[2]; out[4 * i + 3] = seen ? 255 : 0;
    }
    points.setTints(out);
    label(counts);
    stage.redraw();
  };
  const label = (counts) => {
    for (const button of legend.querySelectorAll("button[data-class]")) {
      const id = Number(button.dataset.class);
      button.setAttribute("aria-pressed", String(!state.hidden.has(id)));
      button.querySelector("[data-count]").textContent = counts[id] ? counts[id].toLocaleString("en") : "–";
    }
    for (const part of ["mode", "scan"]) {
      for (const button of root.querySelectorAll(`button[data-${part}]`)) {
        button.setAttribute("aria-pressed", String(button.dataset[part] === String(state[part])));
      }
    }
    const given = data.scans[state.scan], share = ((100 * given.wrong) / Math.max(given.labelled, 1)).toFixed(1);
    const thinned = given.points < given.of ? `, of ${given.of.toLocaleString("en")}` : "";
    note.textContent = `${given.points.toLocaleString("en")} points${thinned}; ${share} % of the labelled points are wrong. `
      + { truth: "Colour: what the points are.", prediction: "Colour: what the model says.",
          errors: "Red: wrong; grey: right; dark: unlabelled. The legend counts errors by what the points are." }[state.mode];
    stage.canvas.setAttribute("aria-label", `Scan ${given.name}, ${state.mode}`);
  };

  // ---- buttons ----------------------------------------------------------------------------------------------------
  root.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const { mode, scan: chosen, class: id, all, view } = button.dataset;
    if (mode) { state.mode = mode; show(); }
    if (chosen) load(Number(chosen));
    if (id) {
      const number = Number(id);
      if (!state.hidden.delete(number)) state.hidden.add(number);
      show();
    }
    if (all) {
      state.hidden = new Set(all === "off" ? data.names.map((_, number) => number) : []);
      show();
    }
    if (view) stage.look(view);
  });
  find("size").addEventListener("input", (event) => {
    points.size = Number(event.target.value);
    stage.redraw();
  });
  points.size = Number(find("size").value);

  window.pointsegViewer = {
    state: () => ({ scan: state.scan, mode: state.mode, hidden: [...state.hidden].sort((a, b) => a - b),
                    drawn: state.drawn, camera: camera.position,
                    target: [...camera.target] }),
    measure: (n) => stage.measure(n),
  };
  load(0);
})();
