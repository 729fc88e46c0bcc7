"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const images = data.images;
  const STEP = 60; // cards that are made at a time
  const KEYS = { g: "good", d: "defect", u: "unsure" };
  const WORDS = { good: "good after all", defect: "defect", unsure: "unsure" };
  const rates = [...document.querySelectorAll("tr[data-level]")];
  let level = data.fitted; // position in `rates`
  let order = [];
  let nCards = 0;
  let openPlace = -1; // in `order`, of the opened image
  let anchor = null; // where a selection with Shift begins
  const selected = new Set(); // positions of images
  const verdicts = new Map();
  const blocks = new Map();

  // --- small helpers -----------------------------------------------------------------------
  function element(name, attributes = {}, ...children) {
    const made = ["svg", "path"].includes(name)
      ? document.createElementNS("http://www.w3.org/2000/svg", name)
      : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined) made.setAttribute(key, value);
    }
    made.append(...children.filter((child) => child !== null));
    return made;
  }
  function number(value, digits = 3) {
    return value === null || value === undefined ? "–" : Number(value.toPrecision(digits)).toString();
  }
  function openImage() { return order[openPlace]; }
  function isKnown(image) { return image.error === null; }
  function isRejected(judged) { return judged.at[level] === "1"; } // an image or a part
  function decisionOf(image) {
    if (!isKnown(image)) return "unreadable";
    return isRejected(image) ? "rejected" : "accepted";
  }
  function decisionInWords(image) {
    return isKnown(image) ? decisionOf(image) : "cannot be read";
  }
  // All decisions of the filter that an image comes under.
  function decisionsOf(image) {
    return [decisionOf(image), isWrong(image) && (isRejected(image) ? "false-alarm" : "missed"),
      image.part && isRejected(image.part) && "part"];
  }
  function partInWords(part) {
    return `part ${part.name}: ${isRejected(part) ? "rejected" : "accepted"} by ${part.views}`;
  }
  function isWrong(image) {
    return data.labelled && isKnown(image) && (image.type === "good") === isRejected(image);
  }
  function pictureOf(i) {
    const block = Math.floor(i / data.blockSize);
    if (!blocks.has(block)) {
      blocks.set(block, JSON.parse($("pictures-" + block).textContent));
    }
    return blocks.get(block)[i % data.blockSize];
  }

  // --- pictures ----------------------------------------------------------------------------
  function mapOf(picture, size) {
    const drawn = element("img", { src: picture.map, class: "map", alt: "", draggable: "false" });
    const [top, left, bottom, right] = picture.box;
    drawn.style.top = `${100 * top / size[0]}%`;
    drawn.style.left = `${100 * left / size[1]}%`;
    drawn.style.height = `${100 * (bottom - top) / size[0]}%`;
    drawn.style.width = `${100 * (right - left) / size[1]}%`;
    return drawn;
  }
  function fitted(image, picture, width, height, alt) {
    const scale = Math.min(width / image.size[1], height / image.size[0]);
    const box = element("div", { class: "fit" });
    box.style.width = `${scale * image.size[1]}px`;
    box.style.height = `${scale * image.size[0]}px`;
    box.append(element("img", { src: picture.full ?? picture.image, alt, class: "photo", decoding: "async", draggable: "false" }));
    return box;
  }

  // --- cards -------------------------------------------------------------------------------
  function label(image) {
    const parts = [image.name];
    if (image.type) parts.push(image.type);
    parts.push(decisionInWords(image));
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
      box.append(mapOf(picture, image.size));
      frame.append(box);
    } else {
      frame.append(element("span", { class: "missing" }, "cannot be read"));
    }
    button.append(frame, element("span", { class: "badge" }), element("span", { class: "more" }),
      element("span", { class: "short" }, image.short ?? ""), element("span", { class: "part" }),
      element("span", { class: "name", title: image.file }, image.name));
    refresh(button);
    return element("li", {}, button);
  }
  function refresh(button) {
    const i = Number(button.dataset.i);
    const image = images[i];
    const badge = button.querySelector(".badge");
    badge.className = `badge ${decisionOf(image)}`;
    badge.textContent = decisionInWords(image);
    const rest = [image.type, data.routed && isKnown(image) ? image.route : null,
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
    type: (a, b) => a.type.localeCompare(b.type) || compare.p(a, b),
    part: (a, b) => a.part.p - b.part.p || b.part.score - a.part.score || compare.p(a, b),
    route: (a, b) => a.route.localeCompare(b.route) || compare.p(a, b),
  };
  function matches(image, i) {
    const type = $("type")?.value;
    const route = $("route")?.value;
    const decision = $("decision").value;
    const verdict = $("verdict").value;
    const most = $("p-max").value === "" ? null : Number($("p-max").value);
    const text = $("search").value.toLowerCase();
    if (type && image.type !== type) return false;
    if (route && image.route !== route) return false;
    if (decision && !decisionsOf(image).includes(decision)) return false;
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
    nCards = 0;
    more();
    $("count").textContent = `${order.length} of ${images.length} images.`;
  }
  function more() {
    const next = order.slice(nCards, nCards + STEP).map(card);
    $("cards").append(...next);
    nCards += next.length;
    $("more").hidden = nCards >= order.length;
    $("more").textContent = `Show more images (${order.length - nCards} left)`;
  }

  function focusCard(place) { // or the last one, where there are fewer
    place = Math.min(place, order.length - 1);
    while (place >= nCards && nCards < order.length) more();
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
    const judged = selected.size ? [...selected] : [i];
    const places = judged.map((k) => order.indexOf(k));
    let next = Math.max(...places) + (give(verdict, judged) ? 1 : 0);
    select([]);
    if ($("verdict").value !== "") { // what has a verdict now may not be shown any more
      list();
      next = Math.min(...places);
    }
    focusCard(next);
  }
  function galleryKey(event) {
    const focus = document.activeElement.closest(".card");
    const i = focus ? Number(focus.dataset.i) : null;
    const said = KEYS[event.key];
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
  function setLevel(next) {
    level = next;
    const name = rates[level].querySelector("button").textContent;
    $("level").value = level;
    $("level").setAttribute("aria-valuetext", name);
    $("level-text").textContent = name;
    $("now").textContent = rates[level].dataset.sentence;
    rates.forEach((row, k) => row.classList.toggle("current", k === level));
    for (const mark of marks) {
      const image = images[mark.dataset.i];
      mark.setAttribute("fill-opacity", isRejected(image) ? 0.95 : 0.15);
      mark.setAttribute("aria-label", label(image));
      mark.firstChild.textContent = label(image);
    }
    if (!["", "unreadable"].includes($("decision").value)) list();
    else document.querySelectorAll(".card").forEach(refresh);
  }

  // --- base against whole score ------------------------------------------------------------
  const marks = [...document.querySelectorAll("#shift .mark")];
  function openMark(drawn) {
    const i = Number(drawn.dataset.i);
    if (!order.includes(i)) { $("controls").reset(); list(); }
    show(order.indexOf(i));
  }
  function markKey(event) {
    const place = marks.indexOf(event.target);
    const next = marks[place + ({ ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key] ?? NaN)];
    if (place < 0) return;
    if (event.key === "Enter" || event.key === " ") openMark(event.target);
    else if (next) {
      event.target.setAttribute("tabindex", -1);
      next.setAttribute("tabindex", 0);
      next.focus();
    } else return;
    event.preventDefault();
  }
  // --- one image ---------------------------------------------------------------------------
  const view = { zoom: 1, x: 0, y: 0 }; // of the opened image; x and y in pixels from the middle
  function show(place) {
    if (place !== openPlace) Object.assign(view, { zoom: 1, x: 0, y: 0 });
    openPlace = place;
    const i = order[place];
    const image = images[i];
    $("detail-title").textContent = image.name + (image.type ? ` (${image.type})` : "");
    $("detail-file").textContent = image.file;
    const why = isKnown(image) ? [...image.why] : [`It cannot be read: ${image.error}`];
    if (isKnown(image) && image.at[level] !== image.at[data.fitted]) {
      why.unshift(`At ${rates[level].querySelector("button").textContent} false alarms it is ${decisionOf(image)}. As fitted:`);
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
    return box ? images[openImage()].size[1] / box.offsetWidth : 1;
  }
  function toWhole() { // with the farthest patch in the middle
    const { size, peak } = images[openImage()];
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
    const photo = box.querySelector(".photo");
    photo.classList.toggle("pixelated", view.zoom >= 3 * wholeZoom());
    if (view.zoom > 1) showOriginal(photo, images[openImage()]);
    sayPixels();
  }
  // The file itself takes the place of its small picture, if it can be shown and still has that size.
  function showOriginal(photo, image) {
    if (!image.whole || photo.dataset.asked || photo.naturalWidth >= image.size[1]) return;
    photo.dataset.asked = "yes";
    const original = element("img", { src: image.href });
    original.addEventListener("load", () => {
      if (original.naturalWidth !== image.size[1] || original.naturalHeight !== image.size[0]) return;
      photo.addEventListener("load", sayPixels);
      photo.src = original.src;
    });
  }
  function sayPixels() {
    const photo = document.querySelector("#stage .photo");
    const [height, width] = images[openImage()].size ?? [];
    const has = photo?.naturalWidth;
    $("pixels").textContent = !has ? "" : has >= width ? `All ${width} × ${height} pixels.`
      : `${has} × ${photo.naturalHeight} of ${width} × ${height} pixels`
        + (photo.dataset.asked ? ": the file is not where it was, or no browser shows it." : ".");
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
    const box = fitted(image, picture, stage.clientWidth, stage.clientHeight, `Image ${image.name}`);
    if ($("show-map").checked) box.append(mapOf(picture, image.size));
    const drawing = element("svg", { viewBox: `0 0 ${image.size[1]} ${image.size[0]}`,
      preserveAspectRatio: "none", "aria-hidden": "true" });
    const line = (attributes) => element("path",
      { fill: "none", "vector-effect": "non-scaling-stroke", ...attributes });
    if ($("show-mask").checked && picture.truth) drawing.append(line({ class: "truth", ...picture.truth }));
    if ($("show-region").checked) {
      drawing.append(line({ class: "region", ...picture.region }));
      const arm = 0.02 * Math.max(...image.size);
      const [row, column] = image.peak;
      drawing.append(line({ class: "peak", d: `M${column - arm} ${row}h${2 * arm}M${column} ${row - arm}v${2 * arm}` }));
    }
    box.append(drawing);
    stage.append(box);
    box.querySelector(".photo").addEventListener("load", sayPixels, { once: true });
    placeImage();
  }
  function drawNumbers(image) {
    if (!isKnown(image)) { $("numbers").replaceChildren(); return; }
    const rows = [["p-value", number(image.p)], ["anomaly score", `${number(image.score)} (threshold ${number(data.threshold)})`]];
    if (data.routed) rows.push(["product", image.route]);
    if (image.part) rows.push(["part", `${partInWords(image.part)}, p-value ${number(image.part.p)}`]);
    const made = rows.map(([name, value]) => element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, value)));
    data.terms.forEach((term, k) => {
      const z = image.z[k];
      const bar = element("span", { class: z > 3 ? "z high" : "z" });
      bar.style.width = `${Math.min(Math.max(z ?? 0, 0) * 6, 90)}px`;
      const words = element("th", { scope: "row", title: term.name }, term.words);
      made.push(element("tr", {}, words, element("td", {}, `${z === null ? "–" : z.toFixed(1)} σ `, bar)));
    });
    $("numbers").replaceChildren(element("caption", {}, "σ: standard deviations above good training images"),
      element("tbody", {}, ...made));
  }
  function step(by) {
    if (openPlace + by >= 0 && openPlace + by < order.length) show(openPlace + by);
  }

  // --- verdicts ----------------------------------------------------------------------------
  // A verdict is kept by the name and content of its file: every report of that file finds it,
  // and two open pages overwrite nothing of each other.
  function keyOf(i) { return `skstructcore-verdict-${images[i].digest}-${images[i].file}`; }
  function keep(i) {
    try {
      if (verdicts.has(i)) localStorage.setItem(keyOf(i), JSON.stringify(verdicts.get(i)));
      else localStorage.removeItem(keyOf(i));
    } catch { $("not-kept").hidden = false; } // they last as long as the page
  }
  function loadVerdicts() {
    try {
      images.forEach((_, i) => {
        const kept = localStorage.getItem(keyOf(i));
        if (kept) verdicts.set(i, JSON.parse(kept));
        else verdicts.delete(i);
      });
    } catch { $("not-kept").hidden = false; }
    drawExport();
    document.querySelectorAll(".card").forEach(refresh);
    if ($("detail").open) drawVerdict(openImage());
  }
  function give(verdict, which) {
    const back = which.every((i) => verdicts.get(i)?.verdict === verdict);
    const time = new Date().toISOString().replace(/\.\d+Z$/, "Z");
    for (const i of which) {
      if (back) verdicts.delete(i);
      else verdicts.set(i, { verdict, time, decision: decisionOf(images[i]) });
      keep(i);
      redraw(i);
    }
    drawExport();
    return !back;
  }
  function giveOpen(verdict) {
    if (give(verdict, [openImage()]) && openPlace + 1 < order.length) step(1);
    else drawVerdict(openImage());
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
  for (const id of ["sort", "type", "route", "decision", "verdict"]) {
    $(id)?.addEventListener("change", list);
  }
  for (const id of ["p-max", "search"]) $(id).addEventListener("input", list);
  $("more").addEventListener("click", () => {
    const next = nCards;
    more();
    $("cards").children[next]?.querySelector("button").focus();
  });
  new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting) && nCards < order.length) more();
  }, { rootMargin: "400px" }).observe($("more"));
  $("level").addEventListener("input", () => setLevel(Number($("level").value)));
  $("as-fitted").addEventListener("click", () => setLevel(data.fitted));
  rates.forEach((row, k) => row.addEventListener("click", () => setLevel(k)));
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
  for (const button of document.querySelectorAll("[data-verdict]")) {
    const act = button.closest("#detail") ? giveOpen : judge;
    button.addEventListener("click", () => act(button.dataset.verdict));
  }
  for (const id of ["show-map", "show-region", "show-mask"]) {
    $(id).addEventListener("change", () => drawStage(openImage()));
  }
  $("detail").addEventListener("close", () => {
    const i = openImage();
    if ($("verdict").value) list(); // a new verdict may have moved it out of what is shown
    focusCard(order.includes(i) ? order.indexOf(i) : openPlace);
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (!$("detail").open) { galleryKey(event); return; }
    const isSlider = event.target.type === "range";
    const keys = { ArrowLeft: () => step(-1), ArrowRight: () => step(1),
      "+": () => zoomTo(2 * view.zoom), "-": () => zoomTo(view.zoom / 2), 0: () => zoomTo(1), 1: toWhole,
      o: () => { $("show-map").checked = !$("show-map").checked; drawStage(openImage()); } };
    for (const key in KEYS) keys[key] = () => giveOpen(KEYS[key]);
    if (keys[event.key] && !(isSlider && event.key.startsWith("Arrow"))) { event.preventDefault(); keys[event.key](); }
  });
  // On paper: all cards up to the last rejected one.
  addEventListener("beforeprint", () => {
    const last = order.findLastIndex((i) => decisionOf(images[i]) === "rejected");
    while (nCards <= last) more();
    $("printed").textContent = nCards < order.length
      ? `The ${order.length - nCards} images that do not follow are accepted or cannot be read.` : "";
  });
  addEventListener("storage", () => { // another open page has a new verdict
    if ($("not-kept").hidden) loadVerdicts();
  });
  addEventListener("resize", () => { if ($("detail").open) drawStage(openImage()); });
  addEventListener("beforeunload", (event) => {
    if (verdicts.size && !$("not-kept").hidden) event.preventDefault();
  });
  $("filters").open = innerWidth > 700; // images come first on a phone
  marks[0]?.setAttribute("tabindex", 0);
  loadVerdicts();
  setLevel(data.fitted);
  list();
})();
