// The mask: how much each pixel of the picture may change, from 0 (kept) to 255 (painted anew). No drawing on screen here.

const HISTORY_BYTES = 256 * 2 ** 20;

export class Mask {
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.data = new Uint8ClampedArray(width * height);
    this.past = [];
    this.future = [];
    this.before = null;
    this.onchange = () => {};
  }

  // A change that can be undone: begin, any number of strokes, end.
  begin() {
    this.before = this.data.slice();
    this.dirty = null;
  }

  end() {
    const box = this.dirty, before = this.before;
    this.before = null;
    if (!box || !before) return;
    this.past.push({ box, before: cut(before, this.width, box), after: cut(this.data, this.width, box) });
    this.future = [];
    let bytes = this.past.reduce((sum, step) => sum + 2 * step.before.length, 0);
    while (bytes > HISTORY_BYTES && this.past.length > 1) bytes -= 2 * this.past.shift().before.length;
  }

  // Takes back what was done since begin.
  abandon() {
    const box = this.dirty;
    if (this.before && box) this.lay(box, cut(this.before, this.width, box));
    this.before = null;
  }

  undo() {
    const step = this.past.pop();
    if (!step) return;
    this.future.push(step);
    this.lay(step.box, step.before);
  }

  redo() {
    const step = this.future.pop();
    if (!step) return;
    this.past.push(step);
    this.lay(step.box, step.after);
  }

  lay(box, values) {
    for (let row = 0; row < box.h; row++)
      this.data.set(values.subarray(row * box.w, (row + 1) * box.w), (box.y + row) * this.width + box.x);
    this.onchange(box);
  }

  touch(box) {
    if (!box) return;
    this.dirty = this.dirty ? union(this.dirty, box) : box;
    this.onchange(box);
  }

  box(x0, y0, x1, y1) {
    const x = Math.max(0, Math.floor(x0)), y = Math.max(0, Math.floor(y0));
    const w = Math.min(this.width, Math.ceil(x1)) - x, h = Math.min(this.height, Math.ceil(y1)) - y;
    return w > 0 && h > 0 ? { x, y, w, h } : null;
  }

  // A stroke from one point to another with a round brush; points are in pixels, pixel (0, 0) has its middle at 0.5.
  stroke(from, to, diameter, value) {
    const r = diameter / 2;
    const box = this.box(
      Math.min(from.x, to.x) - r, Math.min(from.y, to.y) - r, Math.max(from.x, to.x) + r, Math.max(from.y, to.y) + r,
    );
    if (!box) return;
    const dx = to.x - from.x, dy = to.y - from.y, length = dx * dx + dy * dy;
    // A brush of one pixel paints the pixel under it, wherever in that pixel it is.
    const reach = Math.max(r * r, 0.5);
    for (let y = box.y; y < box.y + box.h; y++) {
      for (let x = box.x; x < box.x + box.w; x++) {
        const px = x + 0.5 - from.x, py = y + 0.5 - from.y;
        const t = length ? Math.min(1, Math.max(0, (px * dx + py * dy) / length)) : 0;
        const ex = px - t * dx, ey = py - t * dy;
        if (ex * ex + ey * ey <= reach) this.data[y * this.width + x] = value;
      }
    }
    this.touch(box);
  }

  rectangle(from, to, value) {
    const box = this.box(
      Math.round(Math.min(from.x, to.x)), Math.round(Math.min(from.y, to.y)),
      Math.round(Math.max(from.x, to.x)), Math.round(Math.max(from.y, to.y)),
    );
    if (!box) return;
    for (let y = box.y; y < box.y + box.h; y++) this.data.fill(value, y * this.width + box.x, y * this.width + box.x + box.w);
    this.touch(box);
  }

  // The inside of a closed line, by the even-odd rule.
  polygon(points, value) {
    if (points.length < 3) return;
    const xs = points.map((p) => p.x), ys = points.map((p) => p.y);
    const box = this.box(Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys));
    if (!box) return;
    for (let y = box.y; y < box.y + box.h; y++) {
      const middle = y + 0.5, cuts = [];
      for (let i = 0; i < points.length; i++) {
        const a = points[i], b = points[(i + 1) % points.length];
        if (a.y > middle !== b.y > middle) cuts.push(a.x + ((middle - a.y) / (b.y - a.y)) * (b.x - a.x));
      }
      cuts.sort((a, b) => a - b);
      for (let i = 0; i + 1 < cuts.length; i += 2) {
        const start = Math.max(0, Math.ceil(cuts[i] - 0.5)), stop = Math.min(this.width, Math.floor(cuts[i + 1] - 0.5) + 1);
        if (stop > start) this.data.fill(value, y * this.width + start, y * this.width + stop);
      }
    }
    this.touch(box);
  }

  // Changes of the whole mask, each one step of the history.
  all(change) {
    this.begin();
    change(this.data);
    this.touch({ x: 0, y: 0, w: this.width, h: this.height });
    this.end();
  }

  set(values) {
    this.all((data) => data.set(values));
  }

  clear() {
    this.all((data) => data.fill(0));
  }

  invert() {
    this.all((data) => {
      for (let i = 0; i < data.length; i++) data[i] = 255 - data[i];
    });
  }

  // Grows by some pixels in all directions; below 0 it shrinks.
  grow(pixels) {
    const shrinks = pixels < 0, reach = pixels * pixels;
    const top = this.data.reduce((most, value) => Math.max(most, value), 0);
    const far = distances(this.data, this.width, this.height, (value) => (shrinks ? value === 0 : value > 0));
    this.all((data) => {
      for (let i = 0; i < data.length; i++) {
        if (shrinks && far[i] <= reach) data[i] = 0;
        else if (!shrinks && data[i] === 0 && far[i] <= reach) data[i] = top;
      }
    });
  }

  // Makes edges soft over about so many pixels.
  feather(pixels) {
    const radius = Math.max(1, Math.round(pixels / 3));
    let values = Float32Array.from(this.data);
    for (let turn = 0; turn < 3; turn++) {
      values = boxed(values, this.width, this.height, radius, 1, this.width);
      values = boxed(values, this.height, this.width, radius, this.width, 1);
    }
    this.all((data) => data.set(values.map(Math.round)));
  }

  get isEmpty() {
    return this.data.every((value) => value < 9);
  }

  get isSoft() {
    return this.data.some((value) => value > 8 && value < 247);
  }
}

function cut(data, width, box) {
  const made = new Uint8ClampedArray(box.w * box.h);
  for (let row = 0; row < box.h; row++) {
    const start = (box.y + row) * width + box.x;
    made.set(data.subarray(start, start + box.w), row * box.w);
  }
  return made;
}

function union(a, b) {
  const x = Math.min(a.x, b.x), y = Math.min(a.y, b.y);
  return { x, y, w: Math.max(a.x + a.w, b.x + b.w) - x, h: Math.max(a.y + a.h, b.y + b.h) - y };
}

// A running mean of 2·radius + 1 values along lines of a picture; the ends go on as they are.
function boxed(values, length, lines, radius, step, stride) {
  const made = new Float32Array(values.length), span = 2 * radius + 1;
  for (let line = 0; line < lines; line++) {
    const base = line * stride, at = (i) => values[base + Math.min(length - 1, Math.max(0, i)) * step];
    let sum = 0;
    for (let i = -radius; i <= radius; i++) sum += at(i);
    for (let i = 0; i < length; i++) {
      made[base + i * step] = sum / span;
      sum += at(i + radius + 1) - at(i - radius);
    }
  }
  return made;
}

// The squared distance of each pixel to the nearest one that is inside (Felzenszwalb and Huttenlocher, 2012).
function distances(data, width, height, inside) {
  const far = 1e12, made = new Float64Array(data.length);
  for (let i = 0; i < data.length; i++) made[i] = inside(data[i]) ? 0 : far;
  const longest = Math.max(width, height), f = new Float64Array(longest), v = new Int32Array(longest);
  const z = new Float64Array(longest + 1);
  const meet = (q, p) => (f[q] + q * q - f[p] - p * p) / (2 * q - 2 * p);
  const line = (base, step, length) => {
    for (let i = 0; i < length; i++) f[i] = made[base + i * step];
    let k = 0;
    v[0] = 0;
    z[0] = -Infinity;
    z[1] = Infinity;
    for (let q = 1; q < length; q++) {
      let s = meet(q, v[k]);
      while (s <= z[k]) s = meet(q, v[--k]);
      v[++k] = q;
      z[k] = s;
      z[k + 1] = Infinity;
    }
    k = 0;
    for (let q = 0; q < length; q++) {
      while (z[k + 1] < q) k++;
      made[base + q * step] = (q - v[k]) ** 2 + f[v[k]];
    }
  };
  for (let x = 0; x < width; x++) line(x, width, height);
  for (let y = 0; y < height; y++) line(y * width, 1, width);
  return made;
}
