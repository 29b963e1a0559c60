// What a tab keeps over a reload: the picture, the mask, the settings and the running job. It stays in the browser.

const tab = (sessionStorage.tab ??= crypto.getRandomValues(new Uint32Array(2)).join("-"));
const DAY = 24 * 3600 * 1000;

function opened() {
  return new Promise((good, bad) => {
    const request = indexedDB.open("lanpaint", 1);
    request.onupgradeneeded = () => request.result.createObjectStore("tabs");
    request.onsuccess = () => good(request.result);
    request.onerror = () => bad(request.error);
  });
}

async function inStore(mode, work) {
  const base = await opened();
  try {
    return await new Promise((good, bad) => {
      const transaction = base.transaction("tabs", mode);
      const request = work(transaction.objectStore("tabs"));
      transaction.oncomplete = () => good(request?.result);
      transaction.onerror = transaction.onabort = () => bad(transaction.error);
    });
  } finally {
    base.close();
  }
}

export async function load() {
  try {
    return await inStore("readonly", (store) => store.get(tab));
  } catch {
    return undefined; // a private window may keep nothing
  }
}

export async function save(record) {
  try {
    await inStore("readwrite", (store) => {
      const old = store.openCursor();
      old.onsuccess = () => {
        const cursor = old.result;
        if (!cursor) return;
        if (Date.now() - (cursor.value.when ?? 0) > DAY) cursor.delete();
        cursor.continue();
      };
      return store.put({ ...record, when: Date.now() }, tab);
    });
  } catch {
    // nothing is kept then
  }
}
