// The canvas: shows the picture, the mask and the frame, and turns pointers and keys into strokes.

import { Mask } from "./mask.js";

const INK = [224, 62, 120];
const LEAST = 0.02, MOST = 96;
const SIDES = ["left", "top", "right", "bottom"];

export class View {
  constructor(canvas) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    this.picture = null; // ImageBitmap
    this.mask = null;
    this.overlay = document.createElement("canvas");
    this.pad = [0, 0, 0, 0];
    this.tool = "brush";
    this.size = 8;
    this.strength = 1;
    this.scale = 1;
    this.x = 0;
    this.y = 0;
    this.shown = null; // a result, or a preview, in place of the picture
    this.split = 0; // share of the width, from the left, that shows the picture as it was
    this.comparing = false;
    this.hover = null;
    this.cursor = null; // of the keyboard
    this.drag = null;
    this.pointers = new Map();
    this.onchange = () => {};
    this.onresize = () => {};
    this.onsplit = () => {};
    this.onpad = () => {};
    this.listen();
    new ResizeObserver(() => this.resized()).observe(canvas);
  }

  // --- what is shown

  open(picture, values) {
    this.picture = picture;
    this.mask = new Mask(picture.width, picture.height);
    this.overlay.width = picture.width;
    this.overlay.height = picture.height;
    this.mask.onchange = (box) => {
      this.inked(box);
      this.draw();
      this.onchange();
    };
    if (values) {
      this.mask.data.set(values);
      this.inked({ x: 0, y: 0, w: picture.width, h: picture.height });
    }
    this.pad = [0, 0, 0, 0];
    this.shown = null;
    this.cursor = null;
    this.comparing = false;
    this.size = Math.max(1, Math.round(Math.max(picture.width, picture.height) / 8));
    this.fit();
    this.onchange();
  }

  inked(box) {
    const image = new ImageData(box.w, box.h), mask = this.mask;
    for (let row = 0; row < box.h; row++) {
      for (let column = 0; column < box.w; column++) {
        const value = mask.data[(box.y + row) * mask.width + box.x + column], place = 4 * (row * box.w + column);
        image.data[place] = INK[0];
        image.data[place + 1] = INK[1];
        image.data[place + 2] = INK[2];
        image.data[place + 3] = value ? 40 + value * 0.5 : 0;
      }
    }
    this.overlay.getContext("2d").putImageData(image, box.x, box.y);
  }

  get frame() {
    const [left, top, right, bottom] = this.pad;
    return { x: -left, y: -top, w: this.picture.width + left + right, h: this.picture.height + top + bottom };
  }

  resized() {
    const box = this.canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
    const wasFit = this.isFit;
    this.canvas.width = Math.max(1, Math.round(box.width * ratio));
    this.canvas.height = Math.max(1, Math.round(box.height * ratio));
    this.ratio = ratio;
    if (this.picture && wasFit !== false) this.fit();
    else this.draw();
  }

  fit() {
    if (!this.picture) return;
    const width = this.canvas.clientWidth, height = this.canvas.clientHeight, frame = this.frame;
    const margin = Math.min(48, width / 8, height / 8);
    const scale = Math.min((width - 2 * margin) / frame.w, (height - 2 * margin) / frame.h);
    this.scale = Math.min(MOST, Math.max(LEAST, scale));
    this.x = width / 2 - (frame.x + frame.w / 2) * this.scale;
    this.y = height / 2 - (frame.y + frame.h / 2) * this.scale;
    this.isFit = true;
    this.draw();
    this.onresize();
  }

  zoom(factor, at) {
    if (!this.picture) return;
    at ??= { x: this.canvas.clientWidth / 2, y: this.canvas.clientHeight / 2 };
    const scale = Math.min(MOST, Math.max(LEAST, this.scale * factor)), real = scale / this.scale;
    this.x = at.x - (at.x - this.x) * real;
    this.y = at.y - (at.y - this.y) * real;
    this.scale = scale;
    this.isFit = false;
    this.draw();
    this.onresize();
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.isFit = false;
    this.draw();
  }

  show(picture, comparing) {
    this.shown = picture;
    this.comparing = Boolean(picture && comparing);
    this.draw();
  }

  draw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = null;
      this.drawNow();
    });
  }

  drawNow() {
    const pen = this.pen, ratio = this.ratio || 1;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    if (!this.picture) return;
    const style = getComputedStyle(this.canvas), frame = this.frame, s = this.scale;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    const at = (x, y, w, h) => [this.x + x * s, this.y + y * s, w * s, h * s];
    pen.save();
    pen.shadowColor = "rgba(0,0,0,0.25)";
    pen.shadowBlur = 18;
    pen.shadowOffsetY = 3;
    pen.fillStyle = style.getPropertyValue("--paper");
    pen.fillRect(...at(frame.x, frame.y, frame.w, frame.h));
    pen.restore();
    this.hatch(at(frame.x, frame.y, frame.w, frame.h), style);
    pen.imageSmoothingEnabled = s < 2;
    pen.imageSmoothingQuality = "high";
    const whole = [0, 0, this.picture.width, this.picture.height];
    const hasFrame = this.pad.some(Boolean);
    if (this.shown && this.comparing) {
      const line = this.x + (frame.x + this.split * frame.w) * s;
      const [fx, fy, fw, fh] = at(frame.x, frame.y, frame.w, frame.h);
      pen.drawImage(this.picture, ...at(...whole));
      pen.save();
      pen.beginPath();
      pen.rect(line, fy, fx + fw - line, fh);
      pen.clip();
      pen.drawImage(this.shown, fx, fy, fw, fh);
      pen.restore();
      if (this.split > 0) {
        pen.fillStyle = "#fff";
        pen.fillRect(line - 1.5, fy, 3, fh);
        pen.strokeStyle = "rgba(0,0,0,.45)";
        pen.lineWidth = 1;
        pen.strokeRect(line - 2, fy, 4, fh);
      }
      return;
    }
    if (this.shown) {
      pen.drawImage(this.shown, ...at(frame.x, frame.y, frame.w, frame.h));
      return;
    }
    pen.drawImage(this.picture, ...at(...whole));
    pen.drawImage(this.overlay, ...at(...whole));
    if (hasFrame || this.tool === "frame") this.drawFrame(at, frame, style);
    this.drawTool();
  }

  hatch([x, y, w, h], style) {
    const pen = this.pen;
    pen.save();
    pen.beginPath();
    pen.rect(x, y, w, h);
    pen.clip();
    pen.strokeStyle = style.getPropertyValue("--hatch");
    pen.lineWidth = 1;
    pen.beginPath();
    const left = Math.max(x, 0), right = Math.min(x + w, this.canvas.clientWidth);
    const top = Math.max(y, 0), bottom = Math.min(y + h, this.canvas.clientHeight);
    for (let d = left - (bottom - top); d < right; d += 9) {
      pen.moveTo(d, bottom);
      pen.lineTo(d + bottom - top, top);
    }
    pen.stroke();
    pen.restore();
  }

  drawFrame(at, frame, style) {
    const pen = this.pen, [x, y, w, h] = at(frame.x, frame.y, frame.w, frame.h);
    pen.strokeStyle = style.getPropertyValue("--accent");
    pen.lineWidth = 2;
    pen.strokeRect(x - 1, y - 1, w + 2, h + 2);
    if (this.tool !== "frame") return;
    pen.fillStyle = style.getPropertyValue("--accent");
    for (const [hx, hy] of [[x, y + h / 2], [x + w / 2, y], [x + w, y + h / 2], [x + w / 2, y + h],
                            [x, y], [x + w, y], [x, y + h], [x + w, y + h]])
      pen.fillRect(hx - 6, hy - 6, 12, 12);
  }

  drawTool() {
    const pen = this.pen, drag = this.drag, s = this.scale;
    const point = this.cursor ?? this.hover;
    const lines = (draw) => {
      for (const [width, colour] of [[3, "rgba(255,255,255,.85)"], [1.25, "rgba(20,20,20,.9)"]]) {
        pen.lineWidth = width;
        pen.strokeStyle = colour;
        pen.beginPath();
        draw();
        pen.stroke();
      }
    };
    const on = (p) => [this.x + p.x * s, this.y + p.y * s];
    if (drag?.kind === "rectangle")
      lines(() => {
        const [ax, ay] = on(drag.from), [bx, by] = on(drag.to);
        pen.rect(ax, ay, bx - ax, by - ay);
      });
    if (drag?.kind === "lasso")
      lines(() => drag.points.forEach((p, i) => (i ? pen.lineTo(...on(p)) : pen.moveTo(...on(p)))));
    if (!point) return;
    const [x, y] = on(point);
    if (this.tool === "brush" || this.tool === "eraser") lines(() => pen.arc(x, y, Math.max(2, (this.size / 2) * s), 0, 7));
    if (this.cursor) {
      lines(() => {
        pen.moveTo(x - 7, y);
        pen.lineTo(x + 7, y);
        pen.moveTo(x, y - 7);
        pen.lineTo(x, y + 7);
      });
    }
  }

  // --- strokes

  get value() {
    return this.tool === "eraser" || this.drag?.erases ? 0 : Math.round(255 * this.strength);
  }

  start(point, erases) {
    this.show(null);
    if (this.tool === "frame") {
      this.drag = { kind: "frame", from: point, pad: [...this.pad], sides: this.sidesAt(point) };
      return;
    }
    if (this.tool === "move") return;
    this.mask.begin();
    if (this.tool === "rectangle") this.drag = { kind: "rectangle", from: point, to: point, erases };
    else if (this.tool === "lasso") this.drag = { kind: "lasso", points: [point], erases };
    else {
      this.drag = { kind: "stroke", last: point, erases };
      this.mask.stroke(point, point, this.size, this.value);
    }
    this.draw();
  }

  go(point) {
    const drag = this.drag;
    if (!drag) return;
    if (drag.kind === "stroke") {
      this.mask.stroke(drag.last, point, this.size, this.value);
      drag.last = point;
    } else if (drag.kind === "rectangle") drag.to = point;
    else if (drag.kind === "lasso") drag.points.push(point);
    else if (drag.kind === "frame") this.dragFrame(drag, point);
    this.draw();
  }

  finish() {
    const drag = this.drag;
    if (!drag) return;
    if (drag.kind === "rectangle") this.mask.rectangle(drag.from, drag.to, this.value);
    if (drag.kind === "lasso") this.mask.polygon(drag.points, this.value);
    this.drag = null;
    if (drag.kind !== "frame") this.mask.end();
    this.draw();
    this.onchange();
  }

  abandon() {
    if (!this.drag) return;
    if (this.drag.kind === "frame") this.setPad(this.drag.pad);
    else this.mask.abandon();
    this.drag = null;
    this.draw();
    this.onchange();
  }

  sidesAt(point) {
    const frame = this.frame, near = 24 / this.scale;
    const gaps = {
      left: Math.abs(point.x - frame.x), right: Math.abs(point.x - frame.x - frame.w),
      top: Math.abs(point.y - frame.y), bottom: Math.abs(point.y - frame.y - frame.h),
    };
    return SIDES.filter((side) => gaps[side] < near);
  }

  dragFrame(drag, point) {
    const moved = { left: drag.from.x - point.x, top: drag.from.y - point.y };
    moved.right = -moved.left;
    moved.bottom = -moved.top;
    this.setPad(drag.pad.map((value, i) => (drag.sides.includes(SIDES[i]) ? value + moved[SIDES[i]] : value)));
  }

  setPad(pad) {
    this.pad = pad.map((value) => Math.min(4096, Math.max(0, Math.round(value) || 0)));
    this.draw();
    this.onpad();
    this.onchange();
  }

  // --- pointers and keys

  spot(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  pixel(spot) {
    return { x: (spot.x - this.x) / this.scale, y: (spot.y - this.y) / this.scale };
  }

  listen() {
    const canvas = this.canvas;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.moved(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.up(event, name));
    canvas.addEventListener("pointerleave", () => {
      this.hover = null;
      this.draw();
    });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => {
      if (!this.picture) return;
      event.preventDefault();
      const turn = event.deltaY || event.deltaX;
      if (event.shiftKey || event.altKey) this.resize(turn < 0 ? 1.15 : 1 / 1.15);
      else this.zoom(Math.exp(-Math.max(-60, Math.min(60, turn)) / 300), this.spot(event));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => {
      if (!this.cursor) return;
      if (this.drag) this.finish();
      this.cursor = null;
      this.draw();
    });
    addEventListener("keydown", (event) => this.space(event, true));
    addEventListener("keyup", (event) => this.space(event, false));
  }

  space(event, isDown) {
    if (event.code === "Space" && document.activeElement !== this.canvas && !isDown) this.pans = false;
    if (event.code === "Space" && isDown && this.hover && document.activeElement === document.body) {
      this.pans = true;
      event.preventDefault();
    }
  }

  resize(factor) {
    const most = this.picture ? 2 * Math.max(this.picture.width, this.picture.height) : 512;
    const size = this.size * factor;
    this.size = Math.max(1, Math.min(most, factor > 1 ? Math.ceil(size) : Math.floor(size)));
    this.draw();
    this.onresize();
  }

  down(event) {
    if (!this.picture) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.cursor = null;
    const spot = this.spot(event);
    this.pointers.set(event.pointerId, spot);
    if (event.pointerType === "touch" && this.pointers.size === 2) {
      this.abandon(); // two fingers move the picture and paint nothing
      this.pinch = this.span();
      return;
    }
    if (this.pointers.size > 1) return;
    if (this.comparing) {
      this.drag = { kind: "split" };
      this.splitAt(spot);
    } else if (event.button === 1 || this.pans || this.tool === "move") this.drag = { kind: "pan", last: spot };
    else if (event.button === 0 || event.button === 2 || event.button === 5)
      this.start(this.pixel(spot), event.button !== 0 || (event.buttons & 32) !== 0);
  }

  moved(event) {
    if (!this.picture) return;
    const spot = this.spot(event);
    this.hover = event.pointerType === "touch" ? null : this.pixel(spot);
    if (this.pointers.has(event.pointerId)) this.pointers.set(event.pointerId, spot);
    if (this.pinch && this.pointers.size === 2) {
      const now = this.span();
      this.pan(now.x - this.pinch.x, now.y - this.pinch.y);
      this.zoom(now.length / this.pinch.length, now);
      this.pinch = now;
      return;
    }
    if (this.drag?.kind === "split") this.splitAt(spot);
    else if (this.drag?.kind === "pan") {
      this.pan(spot.x - this.drag.last.x, spot.y - this.drag.last.y);
      this.drag.last = spot;
    } else if (this.drag && this.pointers.has(event.pointerId)) {
      const events = event.getCoalescedEvents?.() ?? [];
      for (const one of events.length ? events : [event]) this.go(this.pixel(this.spot(one)));
    } else this.draw();
  }

  up(event, name) {
    this.pointers.delete(event.pointerId);
    if (this.pointers.size < 2) this.pinch = null;
    if (!this.drag || this.pointers.size) return;
    if (this.drag.kind === "split" || this.drag.kind === "pan") this.drag = null;
    else if (name === "pointercancel") this.abandon();
    else this.finish();
  }

  span() {
    const [a, b] = [...this.pointers.values()];
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, length: Math.max(1, Math.hypot(a.x - b.x, a.y - b.y)) };
  }

  splitAt(spot) {
    const frame = this.frame;
    this.split = Math.min(1, Math.max(0, (this.pixel(spot).x - frame.x) / frame.w));
    this.draw();
    this.onsplit();
  }

  // Arrows move the brush, Space sets it down and lifts it.
  key(event) {
    if (!this.picture || event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key in steps) {
      event.preventDefault();
      const [dx, dy] = steps[event.key], frame = this.frame;
      const stride = event.shiftKey ? 1 : Math.max(1, Math.round(Math.max(frame.w, frame.h) / 32));
      this.cursor ??= { x: this.picture.width / 2, y: this.picture.height / 2 };
      this.cursor = {
        x: Math.min(frame.x + frame.w, Math.max(frame.x, this.cursor.x + dx * stride)),
        y: Math.min(frame.y + frame.h, Math.max(frame.y, this.cursor.y + dy * stride)),
      };
      this.go(this.cursor);
      this.draw();
    } else if (event.key === " " || event.key === "Enter") {
      event.preventDefault();
      this.cursor ??= { x: this.picture.width / 2, y: this.picture.height / 2 };
      if (this.drag) this.finish();
      else if (this.tool !== "move" && this.tool !== "frame") this.start(this.cursor, false);
    } else if (event.key === "Escape") this.abandon();
    else if (event.key === "Delete" || event.key === "Backspace") this.mask.clear();
  }
}
