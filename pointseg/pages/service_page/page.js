// The page of the scoring service: a scan goes to the server, and comes back as points in the colours of their classes.
// Drawn by points.js and stage.js, from above by picture.js; server.js asks. `pointsegPage` is for tests and measurements.
"use strict";
(() => {
  const find = (id) => document.getElementById(id);
  const { Refused, metadata, sample, score } = pointsegServer;
  const MOST = 1e6; // points in the view: more cannot be told apart
  const CENTIMETRE = 0.01, LARGEST = 32767; // steps of the view's points, int16
  const KINDS = 1 << 16; // raw ids: the lower half of a label
  const GREY = [77, 77, 77]; // of ids that the model does not name
  const STEPS = [["upload", "Upload"], ["read", "Read"], ["wait", "Wait"], ["predict", "Predict"], ["write", "Write"],
                 ["rest", "Network"]];
  const HELP = {
    mouse: "Drag or arrow keys turn, wheel or + and − zoom, Shift moves; a click tells a point's class.",
    fingers: "A finger turns, two zoom and move; a tap tells a point's class.",
  };
  const classesOf = (count) => `${count} ${count === 1 ? "class" : "classes"}`;
  const number = (value) => value.toLocaleString("en");
  const bytes = (value) => (value < 1e6 ? `${Math.max(1, Math.round(value / 1e3))} kB` : `${(value / 1e6).toFixed(1)} MB`);
  const duration = (ms) => (ms < 9.95 ? `${ms.toFixed(1)} ms` : ms < 999.5 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`);
  const make = (tag, parts = {}, ...children) => {
    const { style, ...rest } = parts, element = Object.assign(document.createElement(tag), rest);
    Object.assign(element.style, style);
    element.append(...children);
    return element;
  };

  let key = ""; // in memory, never in storage or an address
  let known = null; // what /metadata said
  let running = null; // AbortController of what is under way
  let again = null, before = null; // what was asked for when the key was missing, and where the focus was
  let shown = null; // {name, labels, xyz, columns, count, order, classes}
  const hidden = new Set(); // raw ids; kept for the next scan

  // ---- the stage --------------------------------------------------------------------------------------------------
  let stage = null;
  try {
    stage = new pointsegStage.Stage(find("stage"), (i) => {
      const id = shown.labels[shown.order[i]] & 0xffff;
      find("picked").textContent = `Point at ${stage.place(i)} m: ${className(id)}`;
    });
    stage.camera.arrowsTurn = true;
    stage.points.size = Number(find("size").value);
    stage.canvas.tabIndex = -1; // until there is something to see
    stage.canvas.setAttribute("aria-label", "No scan yet");
  } catch {
    find("stage").textContent = "This browser shows no WebGL, which the view in 3D needs. The rest of the page works without.";
  }

  // ---- classes: dark colours are lightened until they stand out, as in reports (on_dark of report/figures.py) ------------
  const onDark = (hex) => {
    const rgb = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255);
    const luminance = 0.3 * rgb[0] + 0.59 * rgb[1] + 0.11 * rgb[2];
    const more = Math.min(Math.max((0.32 - luminance) / 0.6, 0), 0.45);
    return rgb.map((value) => Math.round(255 * (value + (1 - value) * more)));
  };
  const classOf = (id) => known?.classes?.find((one) => one.id === id);
  const className = (id) => classOf(id)?.name ?? (id === 0 ? "no class" : `id ${id}`);
  const colourOf = (id) => (classOf(id) ? onDark(classOf(id).colour) : GREY);
  const css = ([r, g, b]) => `rgb(${r} ${g} ${b})`;
  const modelName = () => [known?.model?.name, known?.model?.version].filter(Boolean).join("/");
  const learn = async () => {
    known = (await metadata(key)) ?? known;
    find("model").textContent = modelName() && `Model ${modelName()}, ${classesOf(known.classes.length)}`;
  };

  // ---- one scan at a time -------------------------------------------------------------------------------------------
  const ask = async (given) => {
    running?.abort();
    const mine = (running = new AbortController()), { signal } = mine;
    let file = given;
    fail(null);
    try {
      if (!file) tell("Making a synthetic street");
      file ??= await sample(key, signal);
      const began = performance.now();
      refuseLarge(file);
      tell(`Sending ${file.name}`, 0);
      const answer = await score(file, key, {
        signal,
        sent: (sent, of) => tell(`Sending ${file.name}, ${bytes(sent)} of ${bytes(of)}`, sent / of),
        waiting: () => tell(`Labelling ${file.name}`),
        busy: (seconds) => tell(`The server is busy; trying again in ${seconds} s`),
      });
      if (!known || (answer.model && answer.model !== modelName())) await learn();
      if (running !== mine) return;
      await present(file.name, answer, began);
    } catch (error) {
      if (running !== mine || error.name === "AbortError") return;
      if (!(error instanceof Refused)) throw error;
      if (error.where === "file" || error.where === "body") error.where = file.name; // to a person, that is what was sent
      if (error.status === 401) Object.assign(error, { where: null, remedy: "Enter it below." });
      again = error.status === 401 ? () => ask(given) : null;
      fail(error);
    } finally {
      if (running === mine) finish();
    }
  };
  const refuseLarge = (file) => {
    const most = known?.limits?.body_bytes;
    if (!most || file.size <= most) return;
    throw new Refused(`${bytes(file.size)} are more than this service takes, ${bytes(most)}`, file.name, "Send a smaller scan.");
  };
  const finish = () => {
    running = null;
    if (document.activeElement === find("cancel")) find("file").focus(); // which is about to go
    find("progress").hidden = true;
    document.body.removeAttribute("aria-busy");
  };
  const cancel = () => {
    if (!running) return;
    running.abort();
    finish();
    find("announce").textContent = "Cancelled";
  };
  const tell = (text, share) => {
    find("progress").hidden = false;
    document.body.setAttribute("aria-busy", "true");
    find("doing").textContent = text;
    if (share === undefined) find("meter").removeAttribute("value"); // how long is not known
    else find("meter").value = share;
  };
  const fail = (error) => {
    find("failed").hidden = !error;
    find("keys").hidden = !(error?.status === 401);
    if (!error) return;
    const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);
    find("what").textContent = sentence(error.what).replace(/\.?$/, ".");
    find("where").textContent = error.where ?? "";
    find("where").hidden = error.where == null;
    find("remedy").textContent = error.remedy ?? "";
    if (error.status !== 401) return;
    if (document.activeElement !== find("key")) before = document.activeElement;
    find("key").focus();
  };

  // ---- what came back -----------------------------------------------------------------------------------------------
  const present = async (name, answer, began) => {
    const { labels, xyz, columns } = answer, count = labels.length;
    const counts = new Uint32Array(KINDS);
    for (let i = 0; i < count; i++) counts[labels[i] & 0xffff]++;
    const classes = [...counts.keys()].filter((id) => counts[id]).sort((a, b) => counts[b] - counts[a])
      .map((id) => ({ id, points: counts[id], name: className(id), rgb: colourOf(id) }));
    shown = { name, labels, xyz, columns, count, classes, order: shuffled(xyz, columns, count) };
    document.body.dataset.state = "shown";
    document.title = `${name}: pointseg`;
    find("name").textContent = name;
    find("picked").textContent = HELP[matchMedia("(pointer: coarse)").matches ? "fingers" : "mouse"];
    listNotes(answer.notes);
    listClasses();
    if (stage) {
      stage.resize();
      stage.points.setPoints(...steps());
      stage.canvas.tabIndex = 0;
      stage.canvas.setAttribute("aria-label", `${name} in 3D, in the colours of its classes; arrow keys turn the view`);
    }
    paint();
    await new Promise(requestAnimationFrame);
    listTimes(answer, performance.now() - began);
  };
  // At most MOST of the finite points, in random order, so that the first of them are a fair picture.
  const shuffled = (xyz, columns, count) => {
    const order = new Uint32Array(count);
    let finite = 0, seed = 1;
    for (let i = 0; i < count; i++) {
      if (Number.isFinite(xyz[columns * i] + xyz[columns * i + 1] + xyz[columns * i + 2])) order[finite++] = i;
    }
    const most = Math.min(finite, MOST);
    for (let i = 0; i < most; i++) {
      seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
      const j = i + Math.floor((seed / 2 ** 32) * (finite - i)), other = order[j];
      order[j] = order[i];
      order[i] = other;
    }
    return order.subarray(0, most);
  };
  const steps = () => {
    const { xyz, columns, order } = shown;
    let farthest = 0;
    for (let i = 0; i < order.length; i++) {
      for (let k = 0; k < 3; k++) farthest = Math.max(farthest, Math.abs(xyz[columns * order[i] + k]));
    }
    const step = Math.max(CENTIMETRE, farthest / LARGEST), out = new Int16Array(3 * order.length);
    for (let i = 0; i < order.length; i++) {
      for (let k = 0; k < 3; k++) out[3 * i + k] = Math.round(xyz[columns * order[i] + k] / step);
    }
    return [out, step];
  };
  // Colours the view and the picture; classes may have been hidden.
  const paint = () => {
    const { labels, order, classes, xyz, columns, count } = shown, colours = new Uint32Array(KINDS); // 0: hidden
    for (const { id, rgb } of classes) colours[id] = hidden.has(id) ? 0 : pointsegPicture.packed(rgb);
    if (stage) {
      const tints = new Uint32Array(order.length);
      for (let i = 0; i < order.length; i++) tints[i] = colours[labels[order[i]] & 0xffff];
      stage.points.setTints(new Uint8Array(tints.buffer));
      stage.redraw();
    }
    pointsegPicture.draw(find("picture"), xyz, columns, count, (i) => colours[labels[i] & 0xffff]);
  };

  const listNotes = (notes) => {
    const thinned = shown.count > MOST ? [`the view shows ${number(MOST)} of the points; counts and labels are of all`] : [];
    find("notes").replaceChildren(...[...notes, ...thinned].map((text) => make("li", { textContent: text })));
  };
  const listClasses = () => {
    const most = shown.classes[0].points;
    find("legend").replaceChildren(...shown.classes.map(({ id, name, points, rgb }) => {
      const box = make("input", { type: "checkbox", checked: !hidden.has(id) });
      box.dataset.id = id;
      const share = (100 * points) / shown.count;
      return make("li", {}, make("label", {},
        box,
        make("span", { className: "swatch", style: { background: css(rgb) } }),
        make("span", { className: "class", textContent: name }),
        make("span", { className: "count", textContent: number(points) }),
        make("span", { className: "share", textContent: share < 0.1 ? "< 0.1 %" : `${share.toFixed(1)} %` }),
        make("span", { className: "bar", ariaHidden: "true" },
             make("span", { style: { width: `${(100 * points) / most}%`, background: css(rgb) } })),
      ));
    }));
  };
  const listTimes = ({ at, server, id, model }, total) => {
    const inside = STEPS.reduce((all, [name]) => all + (server[name] ?? 0), 0);
    // the server may read while the page still sends, and a busy page hears late that all is sent
    const both = Math.max(0, at.sent + inside - at.done), read = Math.min(both, server.read ?? 0);
    const spent = { ...server, upload: Math.max(0, at.sent - (both - read)), rest: Math.max(0, at.done - at.sent - inside) };
    if (spent.read !== undefined) spent.read -= read;
    const given = STEPS.filter(([name]) => spent[name] !== undefined);
    const sum = given.reduce((all, [name]) => all + spent[name], 0) || 1;
    find("times-bar").replaceChildren(...given.map(([name]) =>
      make("span", { className: name, style: { width: `${(100 * spent[name]) / sum}%` } })));
    const row = (name, label, value) => [make("dt", { className: name }, label), make("dd", {}, value)];
    find("times").replaceChildren(
      ...given.flatMap(([name, label]) => row(name, label, duration(spent[name]))),
      ...row("total", "Total, drawn", duration(total)),
      ...(model ? row("fact", "Model", model) : []),
      ...(id ? row("fact", "Request", id) : []),
    );
    const { count, classes } = shown;
    find("announce").textContent = find("status").textContent = 
      `${number(count)} points in ${classesOf(classes.length)}, ${duration(total)}.`;
  };

  // ---- what a person does -------------------------------------------------------------------------------------------
  const save = (blob, name) => {
    const link = make("a", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  };
  const stem = () => shown.name.replace(/\.[^.]*$/, "") || shown.name;
  const switchClasses = (ids, on) => {
    for (const id of ids) on ? hidden.delete(id) : hidden.add(id);
    for (const box of find("legend").querySelectorAll("input")) box.checked = !hidden.has(Number(box.dataset.id));
    paint();
  };
  find("file").addEventListener("change", (event) => {
    const [file] = event.target.files;
    event.target.value = ""; // so that the same file can be chosen again
    if (file) ask(file);
  });
  find("sample").addEventListener("click", () => ask(null));
  find("cancel").addEventListener("click", cancel);
  find("dismiss").addEventListener("click", () => { fail(null); find("file").focus(); });
  find("keys").addEventListener("submit", (event) => {
    event.preventDefault();
    const typed = find("key").value.trim();
    find("key").value = "";
    if (!/^[\x21-\x7e]+$/.test(typed)) {
      fail(new Refused("this is no key", null, "A key has Latin letters, digits and signs, and no spaces.", 401));
      return;
    }
    key = typed;
    before?.focus();
    again?.();
  });
  find("legend").addEventListener("change", ({ target }) => switchClasses([Number(target.dataset.id)], target.checked));
  find("size").addEventListener("input", ({ target }) => {
    if (stage) { stage.points.size = Number(target.value); stage.redraw(); }
  });
  find("save-picture").addEventListener("click", () => find("picture").toBlob((blob) => save(blob, `${stem()}.png`)));
  find("save-labels").addEventListener("click", () => save(new Blob([shown.labels]), `${stem()}.label`));
  document.addEventListener("click", ({ target }) => {
    const { view, all } = target.closest("button")?.dataset ?? {};
    if (view) stage?.look(view);
    if (all) switchClasses(shown.classes.map(({ id }) => id), all === "on");
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") cancel(); });
  const drop = {
    dragover: (event) => { event.preventDefault(); document.body.classList.add("over"); },
    dragleave: (event) => { if (!event.relatedTarget) document.body.classList.remove("over"); },
    drop: (event) => {
      event.preventDefault();
      document.body.classList.remove("over");
      if (event.dataTransfer.files.length) ask(event.dataTransfer.files[0]);
    },
  };
  for (const [name, handler] of Object.entries(drop)) window.addEventListener(name, handler);

  window.pointsegPage = {
    state: () => ({ state: document.body.dataset.state, busy: running !== null, points: shown?.count ?? 0,
                    hidden: [...hidden].sort((a, b) => a - b), camera: stage?.camera.position }),
    measure: (n) => stage.measure(n),
    onDark,
  };
  learn();
})();
