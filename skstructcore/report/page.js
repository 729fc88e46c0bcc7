"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const images = data.images;
  const STEP = 60; // cards that are made at a time
  // Stops of the slider: round false-alarm rates from 0.1 % to 50 %.
  const LEVELS = [0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1,
    0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5];
  // The colours of skstructcore's maps on images: transparent, purple, red, yellow.
  const STOPS = [[87, 16, 110], [124, 29, 109], [160, 42, 99], [195, 59, 79], [224, 85, 54],
    [243, 120, 25], [252, 161, 8], [248, 205, 55], [243, 246, 138]];
  const MARKS = [["#D55E00", "triangle"], ["#009E73", "square"], ["#CC79A7", "diamond"],
    ["#E69F00", "down"], ["#56B4E9", "plus"], ["#8C6D1F", "cross"]];
  const WORDS = { good: "good after all", defect: "defect", unsure: "unsure" };
  const STORE = "skstructcore-report-" + data.id;
  const [LOW, HIGH] = data.limits; // of the bytes of a map
  const THRESHOLD = Math.round(255 * (1 - LOW) / (HIGH - LOW));

  let level = null; // null: as fitted
  let order = [];
  let shown = 0;
  let open = -1; // place in `order`
  let anchor = null; // where a selection with Shift begins
  const selected = new Set(); // positions of images
  const verdicts = loadVerdicts();
  const blocks = new Map();

  // --- small helpers -----------------------------------------------------------------------
  function element(name, attributes = {}, ...children) {
    const svg = ["svg", "circle", "path", "rect", "line", "text", "g", "title"].includes(name);
    const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name)
      : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined) made.setAttribute(key, value);
    }
    made.append(...children.filter((child) => child !== null));
    return made;
  }
  function percent(share) {
    const value = 100 * share;
    return (value > 99 ? value.toPrecision(3) : value.toPrecision(2)).replace(/(\.\d*?)0+$/, "$1")
      .replace(/\.$/, "") + " %";
  }
  function number(value, digits = 3) {
    return value === null || value === undefined ? "–" : Number(value.toPrecision(digits)).toString();
  }
  function isKnown(image) { return image.error === null; }
  function isRejected(image) {
    if (level === null) return image.rejected;
    return image.unknown || image.p <= Math.max(level, image.least) + 1e-9;
  }
  function decisionOf(image) {
    if (!isKnown(image)) return "unreadable";
    return isRejected(image) ? "rejected" : "accepted";
  }
  function isPartRejected(part) {
    return level === null ? part.rejected : part.p <= Math.max(level, part.least) + 1e-9;
  }
  function partInWords(part) {
    return `part ${part.name}: ${isPartRejected(part) ? "rejected" : "accepted"} by ${part.views === 1 ? "one view" : `${part.views} views`}`;
  }
  function isWrong(image) {
    return data.labelled && isKnown(image) && (image.kind === "good") === isRejected(image);
  }
  function pictureOf(i) {
    const block = Math.floor(i / data.blockSize);
    if (!blocks.has(block)) {
      blocks.set(block, JSON.parse($("pictures-" + block).textContent));
    }
    return blocks.get(block)[i % data.blockSize];
  }

  // --- pictures ----------------------------------------------------------------------------
  function color(share) {
    const place = share * (STOPS.length - 1);
    const k = Math.min(Math.floor(place), STOPS.length - 2);
    const rgb = STOPS[k].map((low, c) => low + (place - k) * (STOPS[k + 1][c] - low));
    return [...rgb, 255 * 0.85 * Math.sqrt(share)];
  }
  function bytes(text) { return Uint8Array.from(atob(text), (c) => c.charCodeAt(0)); }
  function mapCanvas(picture, size) {
    const { w, h, v } = picture.map;
    const canvas = element("canvas", { width: w, height: h, class: "map", "aria-hidden": "true" });
    const pixels = canvas.getContext("2d").createImageData(w, h);
    bytes(v).forEach((value, k) => pixels.data.set(color(value / 255), 4 * k));
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    const [top, left, bottom, right] = picture.box;
    canvas.style.top = `${100 * top / size[0]}%`;
    canvas.style.left = `${100 * left / size[1]}%`;
    canvas.style.height = `${100 * (bottom - top) / size[0]}%`;
    canvas.style.width = `${100 * (right - left) / size[1]}%`;
    return canvas;
  }
  // Path around the cells of a grid that lies over a box: top, left, bottom, right.
  function outline(inside, w, h, [top, left, bottom, right], attributes) {
    const X = (column) => left + (right - left) * column / w;
    const Y = (row) => top + (bottom - top) * row / h;
    const is = (row, column) => row >= 0 && row < h && column >= 0 && column < w && inside[row * w + column];
    let d = "";
    for (let row = 0; row <= h; row += 1) {
      for (let column = 0; column <= w; column += 1) {
        if (is(row, column) !== is(row - 1, column)) d += `M${X(column)} ${Y(row)}H${X(column + 1)}`;
        if (is(row, column) !== is(row, column - 1)) d += `M${X(column)} ${Y(row)}V${Y(row + 1)}`;
      }
    }
    return element("path", { d, fill: "none", "vector-effect": "non-scaling-stroke", ...attributes });
  }
  function unpackMask(mask) {
    const inside = new Array(mask.w * mask.h);
    let place = 0;
    mask.r.forEach((run, k) => { inside.fill(k % 2 === 1, place, place + run); place += run; });
    return inside;
  }
  function fitted(image, picture, width, height, alt) {
    const scale = Math.min(width / image.size[1], height / image.size[0]);
    const box = element("div", { class: "fit" });
    box.style.width = `${scale * image.size[1]}px`;
    box.style.height = `${scale * image.size[0]}px`;
    box.append(element("img", { src: picture.full ?? picture.image, alt, decoding: "async", draggable: "false" }));
    return box;
  }

  // --- cards -------------------------------------------------------------------------------
  // With its folder where files of several folders have one name.
  const lastOf = (image, n) => image.file.split(/[\\/]/).slice(-n).join("/");
  const nParts = new Set(images.map((image) => lastOf(image, 1))).size < images.length ? 2 : 1;
  function shortName(image) { return lastOf(image, nParts); }
  function label(image) {
    const parts = [shortName(image)];
    if (image.kind) parts.push(image.kind);
    parts.push(decisionOf(image) === "unreadable" ? "cannot be read" : decisionOf(image));
    if (isKnown(image)) parts.push(`p-value ${number(image.p, 2)}`, image.short);
    if (image.part) parts.push(partInWords(image.part));
    return parts.join(", ");
  }
  function card(i) {
    const image = images[i];
    const button = element("button", { type: "button", class: "card", "data-i": i });
    const frame = element("span", { class: "frame" });
    if (isKnown(image)) {
      const picture = pictureOf(i);
      const box = fitted(image, { image: picture.image }, 190, 170, "");
      box.append(mapCanvas(picture, image.size));
      frame.append(box);
    } else {
      frame.append(element("span", { class: "missing" }, "cannot be read"));
    }
    button.append(frame, element("span", { class: "badge" }), element("span", { class: "more" }),
      element("span", { class: "short" }, image.short ?? ""), element("span", { class: "part" }),
      element("span", { class: "name", title: image.file }, shortName(image)));
    refresh(button);
    return element("li", {}, button);
  }
  function refresh(button) {
    const i = Number(button.dataset.i);
    const image = images[i];
    const decision = decisionOf(image);
    const badge = button.querySelector(".badge");
    badge.className = `badge ${decision}`;
    badge.textContent = decision === "unreadable" ? "cannot be read" : decision;
    const rest = [image.kind, data.routed && isKnown(image) ? image.route : null,
      isKnown(image) ? `p ${number(image.p, 2)}` : null].filter(Boolean);
    button.querySelector(".more").textContent = ` ${rest.join(" · ")}`;
    if (image.part) button.querySelector(".part").textContent = partInWords(image.part);
    button.classList.toggle("wrong", isWrong(image));
    button.setAttribute("aria-pressed", selected.has(i));
    button.querySelector(".verdict-mark")?.remove();
    const verdict = verdicts.get(i);
    if (verdict) {
      badge.before(element("span", { class: "verdict-mark" }, WORDS[verdict.verdict]));
    }
    const said = verdict ? `, verdict ${WORDS[verdict.verdict]}` : "";
    button.setAttribute("aria-label", label(image) + said);
  }
  const compare = {
    p: (a, b) => a.p - b.p || b.score - a.score,
    "p-desc": (a, b) => b.p - a.p || a.score - b.score,
    score: (a, b) => b.score - a.score,
    file: (a, b) => (a.file < b.file ? -1 : a.file > b.file ? 1 : 0),
    kind: (a, b) => a.kind.localeCompare(b.kind) || compare.p(a, b),
    part: (a, b) => a.part.p - b.part.p || b.part.score - a.part.score || compare.p(a, b),
    route: (a, b) => a.route.localeCompare(b.route) || compare.p(a, b),
  };
  function matches(image, i) {
    const kind = $("kind")?.value;
    const route = $("route")?.value;
    const decision = $("decision").value;
    const verdict = $("verdict").value;
    const most = $("p-max").value === "" ? null : Number($("p-max").value);
    const text = $("search").value.toLowerCase();
    if (kind && image.kind !== kind) return false;
    if (route && image.route !== route) return false;
    if (decision === "false-alarm") {
      if (!isWrong(image) || image.kind !== "good") return false;
    } else if (decision === "missed") {
      if (!isWrong(image) || image.kind === "good") return false;
    } else if (decision === "part") {
      if (!image.part || !isPartRejected(image.part)) return false;
    } else if (decision && decisionOf(image) !== decision) return false;
    if (verdict && (verdicts.get(i)?.verdict ?? "none") !== verdict) return false;
    if (most !== null && !(isKnown(image) && image.p <= most)) return false;
    return image.file.toLowerCase().includes(text);
  }
  function list() {
    select([]);
    const by = compare[$("sort").value];
    order = images.map((_, i) => i).filter((i) => matches(images[i], i));
    // What cannot be read has no numbers: it stands at the end, except by name.
    order.sort((a, b) => {
      if ($("sort").value !== "file" && isKnown(images[a]) !== isKnown(images[b])) {
        return isKnown(images[a]) ? -1 : 1;
      }
      return (isKnown(images[a]) && isKnown(images[b]) ? by(images[a], images[b]) : 0)
        || compare.file(images[a], images[b]) || a - b;
    });
    $("cards").replaceChildren();
    shown = 0;
    more();
    $("count").textContent = `${order.length} of ${images.length} images.`;
  }
  function more() {
    const next = order.slice(shown, shown + STEP).map(card);
    $("cards").append(...next);
    shown += next.length;
    $("more").hidden = shown >= order.length;
    $("more").textContent = `Show more images (${order.length - shown} left)`;
  }

  function focusCard(place) {
    while (place >= shown && shown < order.length) more();
    ($("cards").children[place]?.querySelector("button") ?? $("gallery")).focus();
  }
  function select(which) {
    const before = [...selected];
    selected.clear();
    for (const i of which) selected.add(i);
    for (const i of [...before, ...selected]) redraw(i);
    $("selected").hidden = selected.size === 0;
    $("selected-text").textContent = `${selected.size} selected`;
  }
  function toggle(i) {
    select(selected.has(i) ? [...selected].filter((k) => k !== i) : [...selected, i]);
    anchor = i;
  }
  function redraw(i) {
    const button = document.querySelector(`.card[data-i="${i}"]`);
    if (button) refresh(button);
  }
  function clickCard(event, i) {
    const place = order.indexOf(i);
    const start = order.indexOf(anchor);
    if (event.shiftKey && start >= 0) {
      select(order.slice(Math.min(start, place), Math.max(start, place) + 1));
    } else if (event.ctrlKey || event.metaKey) toggle(i);
    else show(place);
  }
  // Verdict on what is selected, or on the image in focus, and on to the next.
  function judge(verdict, i) {
    const place = i === null ? 0 : order.indexOf(i);
    const alone = selected.size === 0;
    const given = give(verdict, alone ? [i] : [...selected]);
    select([]);
    const filtered = $("verdict").value !== "";
    if (filtered) list(); // what has a verdict now may not be shown any more
    focusCard(Math.min(alone && given && !filtered ? place + 1 : place, order.length - 1));
  }
  function galleryKey(event) {
    const focus = document.activeElement.closest(".card");
    const i = focus ? Number(focus.dataset.i) : null;
    const said = { g: "good", d: "defect", u: "unsure" }[event.key];
    if (event.key === "Escape" && selected.size) select([]);
    else if (said && (focus || (selected.size && !document.activeElement.closest("input, select")))) judge(said, i);
    else if (focus && event.key === "x") toggle(i);
    else if (focus && event.key.startsWith("Arrow")) {
      const cards = [...$("cards").children];
      const columns = cards.filter((entry) => entry.offsetTop === cards[0].offsetTop).length;
      const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns }[event.key];
      const place = order.indexOf(i) + by;
      if (place >= 0 && place < order.length) focusCard(place);
    } else return;
    event.preventDefault();
  }

  // --- operating point ---------------------------------------------------------------------
  function count() {
    const known = images.filter(isKnown);
    const rejected = known.filter(isRejected);
    const words = [`${rejected.length} of ${known.length} images are rejected`];
    if (data.labelled) {
      const good = known.filter((image) => image.kind === "good");
      const false_alarms = good.filter(isRejected).length;
      words.push(`${false_alarms} of ${good.length} good ones`);
      words.push(`${rejected.length - false_alarms} of ${known.length - good.length} defects are found`);
    }
    if (data.by_part) {
      const parts = new Map(known.map((image) => [image.part.name, image.part]));
      words.unshift(`${[...parts.values()].filter(isPartRejected).length} of ${parts.size} parts`);
    }
    $("now").textContent = words.join("; ") + ".";
    $("level-text").textContent = level === null ? `${percent(data.asked)} (as fitted)` : percent(level);
    $("level").setAttribute("aria-valuetext", $("level-text").textContent);
    document.querySelectorAll("tr[data-level]").forEach((row) => {
      const asked = level === null ? data.asked : level;
      row.classList.toggle("current", Math.abs(Number(row.dataset.level) - asked) < 1e-9);
    });
  }
  function setLevel(next) {
    level = next;
    count();
    if (["rejected", "accepted", "false-alarm", "missed", "part"].includes($("decision").value)) list();
    else document.querySelectorAll(".card").forEach(refresh);
    paint();
  }
  function moveSlider(asked) {
    const distance = LEVELS.map((value) => Math.abs(Math.log(value / asked)));
    $("level").value = distance.indexOf(Math.min(...distance));
  }

  // --- base against hybrid score -----------------------------------------------------------
  const types = [...new Set(images.map((image) => image.kind))].filter((kind) => kind !== "good").sort();
  function styleOf(kind) {
    if (kind === null || kind === "good") return ["#0072B2", "circle"];
    return MARKS[types.indexOf(kind) % MARKS.length];
  }
  function mark(shape, x, y, fill) {
    const r = 4.5;
    if (shape === "circle") return element("circle", { cx: x, cy: y, r: 4, fill, stroke: fill });
    const paths = {
      triangle: `M${x} ${y - r}l${r} ${2 * r}h${-2 * r}z`,
      down: `M${x} ${y + r}l${r} ${-2 * r}h${-2 * r}z`,
      square: `M${x - 4} ${y - 4}h8v8h-8z`,
      diamond: `M${x} ${y - r}l${r} ${r}l${-r} ${r}l${-r} ${-r}z`,
      plus: `M${x - 1.5} ${y - r}h3v3h3v3h-3v3h-3v-3h-3v-3h3z`,
      cross: `M${x - 4} ${y - 4}l3 0l1 2l1 -2l3 0l-2 4l2 4l-3 0l-1 -2l-1 2l-3 0l2 -4z`,
    };
    return element("path", { d: paths[shape], fill, stroke: fill });
  }
  let marks = [];
  function plot() {
    const svg = $("shift");
    const known = images.map((image, i) => [image, i]).filter(([image]) => isKnown(image));
    const range = (values) => {
      const [low, high] = [Math.min(...values), Math.max(...values)];
      const margin = 0.06 * (high - low || 1);
      return [low - margin, high + margin];
    };
    const [x0, x1] = range([...known.map(([image]) => image.base), data.baseThreshold]);
    const [y0, y1] = range([...known.map(([image]) => image.score), data.threshold]);
    const X = (value) => 60 + 645 * (value - x0) / (x1 - x0);
    const Y = (value) => 395 - 380 * (value - y0) / (y1 - y0);
    const [tx, ty] = [X(data.baseThreshold), Y(data.threshold)];
    const region = (x, y, w, h, fill) => element("rect", { x, y, width: w, height: h, fill, "fill-opacity": 0.1 });
    svg.append(region(60, 15, tx - 60, ty - 15, "#0072B2"), region(tx, 15, 705 - tx, ty - 15, "#555555"),
      region(tx, ty, 705 - tx, 395 - ty, "#D55E00"));
    for (const [low, high, place, axis] of [[x0, x1, X, "x"], [y0, y1, Y, "y"]]) {
      const step = Math.pow(10, Math.floor(Math.log10((high - low) / 3)));
      const wide = step * [1, 2, 5, 10].find((k) => (high - low) / (k * step) <= 8);
      for (let value = Math.ceil(low / wide) * wide; value <= high; value += wide) {
        const text = number(Math.abs(value) < wide / 1e6 ? 0 : value, 4);
        svg.append(axis === "x"
          ? element("text", { x: place(value), y: 412, "text-anchor": "middle" }, text)
          : element("text", { x: 54, y: place(value) + 4, "text-anchor": "end" }, text));
      }
    }
    svg.append(element("text", { x: 382, y: 432, "text-anchor": "middle" }, "base score (farthest patch)"),
      element("text", { x: 14, y: 205, "text-anchor": "middle", transform: "rotate(-90 14 205)" }, "whole score (with the structure of the map)"));
    known.sort(([a], [b]) => (b.kind === "good") - (a.kind === "good") || a.score - b.score);
    marks = known.map(([image, i]) => {
      const [fill, shape] = styleOf(image.kind);
      const drawn = mark(shape, X(image.base), Y(image.score), fill);
      const attributes = { class: "mark", tabindex: -1, role: "button", "data-i": i, "aria-label": label(image) };
      for (const [key, value] of Object.entries(attributes)) drawn.setAttribute(key, value);
      drawn.append(element("title", {}, label(image)));
      svg.append(drawn);
      return [drawn, image];
    });
    svg.append(element("line", { x1: tx, x2: tx, y1: 15, y2: 395, class: "rule", "stroke-dasharray": "6 4" }),
      element("line", { x1: 60, x2: 705, y1: ty, y2: ty, class: "rule" }),
      element("rect", { x: 60, y: 15, width: 645, height: 380, fill: "none", stroke: "#888" }));
    const crossed = (hybrid, base) => known.filter(([image]) =>
      (image.score > data.threshold) === hybrid && (image.base > data.baseThreshold) === base);
    const [gained, lost] = [crossed(true, false), crossed(false, true)];
    marks[0]?.[0].setAttribute("tabindex", 0);
    $("shift-words").textContent = inWords(gained.map(([image]) => image), lost.map(([image]) => image));
    $("shift-legend").append(element("li", {}, `upper left, blue: only the whole score rejects (${gained.length})`),
      element("li", {}, `lower right, orange: only the farthest patch rejects (${lost.length})`));
    const kinds = data.labelled ? [...new Set(images.filter(isKnown).map((image) => image.kind))] : [null];
    kinds.sort((a, b) => (b === "good") - (a === "good") || (a < b ? -1 : 1));
    for (const kind of kinds) {
      const [fill, shape] = styleOf(kind);
      const icon = element("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, mark(shape, 8, 8, fill));
      const n = known.filter(([image]) => kind === null || image.kind === kind).length;
      $("shift-legend").append(element("li", {}, icon, `${kind ?? "images"} (${n})`));
    }
    $("shift-legend").append(element("li", {}, "┄ threshold, farthest patch"), element("li", {}, "─ threshold, whole score"),
      element("li", {}, "hollow: accepted now"));
    paint();
  }
  // Whether the structure of the map helps, by what it changes at the thresholds as fitted.
  function inWords(gained, lost) {
    const start = "Compared with the farthest patch alone, the structure of the map ";
    if (!gained.length && !lost.length) return `${start}changes no decision on these images.`;
    if (!data.labelled) {
      return `${start}rejects ${gained.length} more images and accepts ${lost.length} that would be rejected. `
        + "Without labels it is open which are right: look at the images in the coloured fields.";
    }
    const bad = (members) => members.filter((image) => image.kind !== "good").length;
    const [found, missed] = [bad(gained), bad(lost)];
    const [alarms, spared] = [gained.length - found, lost.length - missed];
    const [more, wrong] = [found - missed, alarms - spared];
    let sum = "It makes no difference in sum.";
    if (more * wrong > 0) sum = `It ${more > 0 ? "finds more and rejects more" : "finds less and rejects fewer"} good images: what costs more decides.`;
    else if (more > 0 || wrong < 0) sum = "It helps on these images.";
    else if (more < 0 || wrong > 0) sum = "It does not help on these images.";
    return `${start}finds ${found} more defects and loses ${missed}; it rejects ${alarms} more good images and spares ${spared}. ${sum}`;
  }
  function openMark(drawn) {
    const i = Number(drawn.dataset.i);
    if (!order.includes(i)) { $("controls").reset(); list(); }
    show(order.indexOf(i));
  }
  function markKey(event) {
    const place = marks.findIndex(([drawn]) => drawn === event.target);
    const next = marks[place + ({ ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key] ?? NaN)];
    if (place < 0) return;
    if (event.key === "Enter" || event.key === " ") openMark(event.target);
    else if (next) {
      event.target.setAttribute("tabindex", -1);
      next[0].setAttribute("tabindex", 0);
      next[0].focus();
    } else return;
    event.preventDefault();
  }
  function paint() {
    for (const [drawn, image] of marks) drawn.setAttribute("fill-opacity", isRejected(image) ? 0.95 : 0.15);
  }

  // --- one image ---------------------------------------------------------------------------
  const view = { zoom: 1, x: 0, y: 0 }; // of the opened image; x and y in pixels from the middle
  function show(place) {
    if (place !== open) Object.assign(view, { zoom: 1, x: 0, y: 0 });
    open = place;
    const i = order[place];
    const image = images[i];
    $("detail-title").textContent = shortName(image) + (image.kind ? ` (${image.kind})` : "");
    $("detail-file").textContent = image.file;
    const why = isKnown(image) ? [...image.why] : [`It cannot be read: ${image.error}`];
    if (isKnown(image) && isRejected(image) !== image.rejected) {
      why.unshift(`At ${percent(level)} false alarms it is ${decisionOf(image)}. As fitted:`);
    }
    if (image.note) why.push(`Note: ${image.note}`);
    $("why").replaceChildren(...why.map((sentence) => element("p", {}, sentence)));
    drawNumbers(image);
    drawVerdict(i);
    $("original").hidden = !image.href;
    $("original").setAttribute("href", image.href ?? "");
    $("previous").disabled = place === 0;
    $("next").disabled = place === order.length - 1;
    if (!$("detail").open) $("detail").showModal();
    drawStage(i); // its size is known once it is open
  }
  function zoomTo(zoom, x = 0, y = 0) {
    const next = Math.min(Math.max(zoom, 1), Math.max(32, 8 * wholeZoom()));
    view.x = next === 1 ? 0 : x - (x - view.x) * next / view.zoom;
    view.y = next === 1 ? 0 : y - (y - view.y) * next / view.zoom;
    view.zoom = next;
    placeImage();
  }
  // The zoom at which a pixel of the original is one of the screen.
  function wholeZoom() {
    const box = document.querySelector("#stage .fit");
    return box ? images[order[open]].size[1] / box.offsetWidth : 1;
  }
  function toWhole() { // with the farthest patch in the middle
    const { size, peak } = images[order[open]];
    if (!peak) return;
    view.zoom = wholeZoom();
    view.x = view.zoom > 1 ? size[1] / 2 - peak[1] : 0;
    view.y = view.zoom > 1 ? size[0] / 2 - peak[0] : 0;
    placeImage();
  }
  function placeImage() {
    const box = document.querySelector("#stage .fit");
    if (!box) return;
    box.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.zoom})`;
    box.style.setProperty("--zoom", view.zoom);
    const shown = box.querySelector("img");
    shown.classList.toggle("pixelated", view.zoom >= 3 * wholeZoom());
    if (view.zoom > 1) showOriginal(shown, images[order[open]]);
    sayPixels();
  }
  // The file itself takes the place of its small picture, if it can be shown and still has that size.
  function showOriginal(shown, image) {
    const isPage = /\[\d+\]$/.test(image.file);
    if (!image.href || isPage || shown.dataset.asked || shown.naturalWidth >= image.size[1]) return;
    shown.dataset.asked = "yes";
    const original = element("img", { src: image.href });
    original.addEventListener("load", () => {
      if (original.naturalWidth !== image.size[1] || original.naturalHeight !== image.size[0]) return;
      shown.addEventListener("load", sayPixels);
      shown.src = original.src;
    });
  }
  function sayPixels() {
    const shown = document.querySelector("#stage img");
    const [height, width] = images[order[open]].size ?? [];
    const has = shown?.naturalWidth;
    $("pixels").textContent = !has ? "" : has >= width ? `All ${width} × ${height} pixels.`
      : `${has} × ${shown.naturalHeight} of ${width} × ${height} pixels`
        + (shown.dataset.asked ? ": the file is not where it was, or no browser shows it." : ".");
  }
  function drawStage(i) {
    const image = images[i];
    const stage = $("stage");
    stage.replaceChildren();
    if (!isKnown(image)) {
      stage.append(element("span", { class: "missing" }, "no picture"));
      return;
    }
    const picture = pictureOf(i);
    const box = fitted(image, picture, stage.clientWidth, stage.clientHeight, `Image ${shortName(image)}`);
    if ($("show-map").checked) box.append(mapCanvas(picture, image.size));
    const drawing = element("svg", { viewBox: `0 0 ${image.size[1]} ${image.size[0]}`,
      preserveAspectRatio: "none", "aria-hidden": "true" });
    if ($("show-mask").checked && picture.mask) {
      const { w, h } = picture.mask;
      drawing.append(outline(unpackMask(picture.mask), w, h, [0, 0, ...image.size], { class: "truth" }));
    }
    if ($("show-region").checked) {
      const { w, h, v } = picture.map;
      const over = Array.from(bytes(v), (value) => value > THRESHOLD);
      drawing.append(outline(over, w, h, picture.box, { class: "region" }));
      const arm = 0.02 * Math.max(...image.size);
      const [row, column] = image.peak;
      drawing.append(element("path", { d: `M${column - arm} ${row}h${2 * arm}M${column} ${row - arm}v${2 * arm}`,
        class: "peak", "vector-effect": "non-scaling-stroke" }));
    }
    box.append(drawing);
    stage.append(box);
    box.querySelector("img").addEventListener("load", sayPixels, { once: true });
    placeImage();
  }
  function drawNumbers(image) {
    if (!isKnown(image)) { $("numbers").replaceChildren(); return; }
    const rows = [["p-value", number(image.p)], ["anomaly score", `${number(image.score)} (threshold ${number(data.threshold)})`]];
    if (data.routed) rows.push(["product", image.route]);
    if (image.part) rows.push(["part", `${partInWords(image.part)}, p-value ${number(image.part.p)}`]);
    const made = rows.map(([name, value]) => element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, value)));
    data.parts.forEach((part, k) => {
      const z = image.z[k];
      const bar = element("span", { class: z > 3 ? "z high" : "z" });
      bar.style.width = `${Math.min(Math.max(z ?? 0, 0) * 6, 90)}px`;
      const words = element("th", { scope: "row", title: part.name }, part.words);
      made.push(element("tr", {}, words, element("td", {}, `${z === null ? "–" : z.toFixed(1)} σ `, bar)));
    });
    $("numbers").replaceChildren(element("caption", {}, "σ: standard deviations above good training images"),
      element("tbody", {}, ...made));
  }
  function step(by) {
    if (open + by >= 0 && open + by < order.length) show(open + by);
  }

  // --- verdicts ----------------------------------------------------------------------------
  function loadVerdicts() {
    try {
      return new Map(JSON.parse(localStorage.getItem(STORE) ?? "[]"));
    } catch { return new Map(); } // the browser keeps nothing for files: verdicts last as long as the page
  }
  function give(verdict, which) {
    const back = which.every((i) => verdicts.get(i)?.verdict === verdict);
    const time = new Date().toISOString().replace(/\.\d+Z$/, "Z");
    for (const i of which) {
      if (back) verdicts.delete(i);
      else verdicts.set(i, { verdict, time, decision: decisionOf(images[i]) });
      redraw(i);
    }
    try { localStorage.setItem(STORE, JSON.stringify([...verdicts])); } catch { /* as above */ }
    drawExport();
    return !back;
  }
  function giveOpen(verdict) {
    if (give(verdict, [order[open]]) && open + 1 < order.length) step(1);
    else drawVerdict(order[open]);
  }
  function drawVerdict(i) {
    document.querySelectorAll("#detail [data-verdict]").forEach((button) => {
      button.setAttribute("aria-pressed", verdicts.get(i)?.verdict === button.dataset.verdict);
    });
  }
  function drawExport() {
    $("export").disabled = verdicts.size === 0;
    $("export").textContent = verdicts.size ? `Save ${verdicts.size} verdicts (CSV)` : "Save verdicts (CSV)";
  }
  function csv() {
    const quote = (value) => {
      const text = value === null || value === undefined ? "" : String(value);
      return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    const rows = [["file", "digest", "verdict", "decision", "p_value", "route", "time"]];
    for (const [i, { verdict, time, decision }] of [...verdicts].sort(([a], [b]) => a - b)) {
      const image = images[i];
      rows.push([image.file, image.digest, verdict, decision, image.p, image.route, time]);
    }
    return rows.map((row) => row.map(quote).join(",")).join("\r\n") + "\r\n";
  }
  function save() {
    const link = element("a", { download: "verdicts.csv" });
    link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  // --- wiring ------------------------------------------------------------------------------
  $("controls").addEventListener("submit", (event) => event.preventDefault());
  $("controls").addEventListener("reset", () => setTimeout(() => { setOpacity(60); list(); }));
  function setOpacity(value) {
    document.documentElement.style.setProperty("--map", value / 100);
    document.querySelectorAll(".opacity").forEach((input) => { input.value = value; });
  }
  document.querySelectorAll(".opacity").forEach((input) => {
    input.addEventListener("input", () => setOpacity(input.value));
  });
  for (const id of ["sort", "kind", "route", "decision", "verdict"]) {
    $(id)?.addEventListener("change", list);
  }
  for (const id of ["p-max", "search"]) $(id).addEventListener("input", list);
  $("more").addEventListener("click", () => {
    const next = shown;
    more();
    $("cards").children[next]?.querySelector("button").focus();
  });
  new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting) && shown < order.length) more();
  }, { rootMargin: "400px" }).observe($("more"));
  $("level").addEventListener("input", () => setLevel(LEVELS[Number($("level").value)]));
  $("as-fitted").addEventListener("click", () => { moveSlider(data.asked); setLevel(null); });
  document.querySelectorAll("tr[data-level]").forEach((row) => row.addEventListener("click", () => {
    moveSlider(Number(row.dataset.level));
    setLevel(Number(row.dataset.level));
  }));
  $("cards").addEventListener("click", (event) => {
    const button = event.target.closest(".card");
    if (button) clickCard(event, Number(button.dataset.i));
  });
  $("unselect").addEventListener("click", () => select([]));
  $("shift").addEventListener("click", (event) => {
    const drawn = event.target.closest(".mark");
    if (drawn) openMark(drawn);
  });
  $("shift").addEventListener("keydown", markKey);
  const inStage = (event) => {
    const box = $("stage").getBoundingClientRect();
    return [event.clientX - box.left - box.width / 2, event.clientY - box.top - box.height / 2];
  };
  $("stage").addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomTo(view.zoom * Math.exp(-event.deltaY / 300), ...inStage(event));
  }, { passive: false });
  $("stage").addEventListener("dblclick", (event) => zoomTo(view.zoom > 1 ? 1 : 4, ...inStage(event)));
  $("stage").addEventListener("pointerdown", (event) => $("stage").setPointerCapture(event.pointerId));
  $("stage").addEventListener("pointermove", (event) => {
    if (!$("stage").hasPointerCapture(event.pointerId) || view.zoom === 1) return;
    view.x += event.movementX;
    view.y += event.movementY;
    placeImage();
  });
  $("zoom-in").addEventListener("click", () => zoomTo(2 * view.zoom));
  $("zoom-out").addEventListener("click", () => zoomTo(view.zoom / 2));
  $("zoom-fit").addEventListener("click", () => zoomTo(1));
  $("zoom-whole").addEventListener("click", toWhole);
  $("export").addEventListener("click", save);
  $("close").addEventListener("click", () => $("detail").close());
  $("previous").addEventListener("click", () => step(-1));
  $("next").addEventListener("click", () => step(1));
  document.querySelectorAll("#detail [data-verdict]").forEach((button) => {
    button.addEventListener("click", () => giveOpen(button.dataset.verdict));
  });
  document.querySelectorAll("#selected [data-verdict]").forEach((button) => {
    button.addEventListener("click", () => judge(button.dataset.verdict, null));
  });
  for (const id of ["show-map", "show-region", "show-mask"]) {
    $(id).addEventListener("change", () => drawStage(order[open]));
  }
  $("detail").addEventListener("close", () => {
    const i = order[open];
    if ($("verdict").value) list(); // a new verdict may have moved it out of what is shown
    (document.querySelector(`.card[data-i="${i}"]`) ?? document.querySelector(".card") ?? $("gallery")).focus();
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (!$("detail").open) { galleryKey(event); return; }
    const isSlider = event.target.type === "range";
    const keys = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), g: () => giveOpen("good"),
      d: () => giveOpen("defect"), u: () => giveOpen("unsure"),
      "+": () => zoomTo(2 * view.zoom), "-": () => zoomTo(view.zoom / 2), 0: () => zoomTo(1), 1: toWhole,
      o: () => { $("show-map").checked = !$("show-map").checked; drawStage(order[open]); } };
    if (keys[event.key] && !(isSlider && event.key.startsWith("Arrow"))) { event.preventDefault(); keys[event.key](); }
  });
  // On paper: all cards up to the last rejected one.
  addEventListener("beforeprint", () => {
    const last = order.findLastIndex((i) => isRejected(images[i]) || !isKnown(images[i]));
    while (shown <= last) more();
    $("printed").textContent = shown < order.length
      ? `The ${order.length - shown} images that do not follow are accepted.` : "";
  });
  const context = $("bar").getContext("2d");
  const strip = context.createImageData(256, 1);
  for (let k = 0; k < 256; k += 1) strip.data.set(color(k / 255), 4 * k);
  const tick = Math.min(THRESHOLD, 254);
  for (const k of [tick, tick + 1]) strip.data.set([0, 0, 0, 255], 4 * k);
  context.putImageData(strip, 0, 0);
  $("bar-text").textContent = `Distance of each patch, from ${number(LOW)} (as in good images) to `
    + `${number(HIGH)} and more. The black line is the threshold, 1. White: patches over it; cross: the farthest patch`
    + (data.labelled ? "; blue: the true defect." : ".");
  $("show-mask").parentElement.hidden = !data.labelled;
  $("filters").open = innerWidth > 700; // images come first on a phone
  $("level").max = LEVELS.length - 1;
  moveSlider(data.asked);
  count();
  plot();
  list();
  drawExport();
})();
