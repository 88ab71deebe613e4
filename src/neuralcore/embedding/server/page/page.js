// Texts to /v1/embeddings, vectors to cosines, cosines to colours. Nothing leaves this server.
"use strict";

const find = (id) => document.getElementById(id);
const ONE_MOMENT_MS = 500;

find("form").addEventListener("submit", (event) => {
  event.preventDefault();
  compare();
});

find("texts").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) find("form").requestSubmit();
});

showModel();

async function compare() {
  const texts = find("texts").value.split("\n").map((line) => line.trim()).filter(Boolean);
  if (!texts.length) return showError("Type a text first, one a line.");
  const button = find("form").querySelector("button");
  button.disabled = true;
  try {
    const began = performance.now();
    const response = await ask("v1/embeddings", { method: "POST", body: JSON.stringify({ input: texts, encoding_format: "base64" }) });
    const body = await response.json();
    const total = performance.now() - began;
    showMatrix(texts, similarities(body.data.map((row) => decode(row.embedding))));
    showTimings(texts.length, body.usage.total_tokens, total, response.headers);
    find("error").hidden = true;
    find("result").hidden = false;
  } catch (error) {
    showError(error.message);
  } finally {
    button.disabled = false;
  }
}

async function ask(path, options = {}) {
  const key = find("key").value;
  const headers = { "content-type": "application/json", ...(key && { authorization: `Bearer ${key}` }) };
  const response = await fetch(path, { ...options, headers });
  if (response.status === 401) find("key-field").hidden = false;
  if (!response.ok) throw new Error(await reason(response));
  return response;
}

async function reason(response) {
  const body = await response.json().catch(() => ({}));
  return body.error?.message ?? body.error ?? `The server answered ${response.status}.`;
}

async function showModel() {
  try {
    const info = await (await ask("info")).json();
    find("model").textContent = `${info.model_id}, ${info.model_dtype}: ${info.dimension} dimensions, up to ${info.max_input_length} tokens`;
  } catch (error) {
    find("model").textContent = error.message;
    if (find("key-field").hidden) setTimeout(showModel, ONE_MOMENT_MS);
  }
}

/** Base64 of little-endian float32. */
function decode(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 4 }, (_, index) => view.getFloat32(4 * index, true));
}

function similarities(vectors) {
  const dot = (a, b) => a.reduce((sum, value, index) => sum + value * b[index], 0);
  const norms = vectors.map((vector) => Math.sqrt(dot(vector, vector)) || 1);
  return vectors.map((a, i) => vectors.map((b, j) => dot(a, b) / (norms[i] * norms[j])));
}

function showMatrix(texts, matrix) {
  const [head, body] = find("matrix").children;
  head.replaceChildren(row([element("", "th"), ...texts.map((_, index) => element(String(index + 1), "th"))]));
  body.replaceChildren(...matrix.map((values, index) => row([label(index, texts[index]), ...values.map(cell)])));
}

function row(cells) {
  const line = document.createElement("tr");
  line.append(...cells);
  return line;
}

function element(text, name) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function label(index, text) {
  const header = element(` ${text}`, "th");
  header.prepend(element(String(index + 1), "b"));
  header.title = text;
  header.scope = "row";
  return header;
}

function cell(value) {
  const heat = Math.min(1, Math.max(0, value));
  const made = element(value.toFixed(2).replace("-0.00", "0.00"), "td");
  made.style.setProperty("--heat", heat.toFixed(3));
  return made;
}

function showTimings(nTexts, nTokens, totalMs, headers) {
  const parts = Object.fromEntries([...(headers.get("server-timing") ?? "").matchAll(/(\w+);dur=([\d.]+)/g)].map((match) => [match[1], Number(match[2])]));
  const ms = (value) => (value === undefined ? "?" : `${value.toFixed(1)} ms`);
  const cut = Number(headers.get("x-truncated-texts") ?? 0);
  const facts = [["Waited", ms(parts.queue)], ["Encoded in", ms(parts.encode)], ["Round trip", ms(totalMs)], ["Texts", nTexts], ["Tokens", nTokens]];
  if (cut) facts.push(["Cut to the limit", cut]);
  find("timings").replaceChildren(...facts.map(([name, value]) => {
    const fact = document.createElement("div");
    fact.append(element(name, "dt"), element(String(value), "dd"));
    return fact;
  }));
}

function showError(message) {
  find("error").textContent = message;
  find("error").hidden = false;
}
