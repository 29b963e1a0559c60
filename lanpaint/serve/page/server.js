// What the page asks of the server: the same requests that a program makes.

export class Problem extends Error {}

const client = (sessionStorage.client ??= crypto.getRandomValues(new Uint32Array(2)).join("-"));

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: { "X-Lanpaint-Client": client, ...options.headers } });
  } catch {
    throw new Problem("the server cannot be reached; is it still running?");
  }
  if (answer.ok) return answer;
  const problem = new Problem((await answer.json().catch(() => ({}))).error ?? `the server answered ${answer.status}`);
  problem.status = answer.status;
  throw problem;
}

export const models = async () => (await ask("/api/models")).json();
export const job = async (id) => (await ask(`/api/jobs/${id}`)).json();
export const cancel = async (id) => (await ask(`/api/jobs/${id}`, { method: "DELETE" })).json();
export const blob = async (url) => (await ask(url)).blob();

export async function recipe(settings, picture, hasMask) {
  const query = new URLSearchParams();
  if (picture) query.set("size", `${picture.width}x${picture.height}`);
  if (!hasMask) query.set("mask", "none");
  const options = { method: "POST", body: JSON.stringify(settings), headers: { "Content-Type": "application/json" } };
  return (await ask(`/api/recipe?${query}`, options)).json();
}

export async function inpaint(picture, mask, settings) {
  const form = new FormData();
  form.append("picture", picture, "picture");
  if (mask) form.append("mask", mask, "mask.png");
  form.append("settings", JSON.stringify(settings));
  return (await ask("/api/inpaint", { method: "POST", body: form })).json();
}

// Calls onjob with the job after each change, until it is over. Gives a function that stops watching.
export function watch(id, onjob, onlost) {
  const source = new EventSource(`/api/jobs/${id}/events`);
  source.onmessage = (event) => {
    const now = JSON.parse(event.data);
    if (["done", "failed", "cancelled"].includes(now.state)) source.close();
    onjob(now);
  };
  source.onerror = async () => {
    if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    try {
      onjob(await job(id));
    } catch (problem) {
      onlost(problem);
    }
  };
  return () => source.close();
}
