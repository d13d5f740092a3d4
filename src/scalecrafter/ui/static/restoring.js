// The request inside a PNG that was made by ScaleCrafter: read here, the file goes nowhere.

const CHUNK = "scalecrafter";
const FORMAT = 1;

/** The text of a chunk, or null. */
function textOf(bytes, keyword) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 8 || view.getUint32(0) !== 0x89504e47) throw new Error("That is not a PNG picture. Choose a PNG made by ScaleCrafter.");
  for (let at = 8; at + 12 <= bytes.length; ) {
    const length = view.getUint32(at);
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    const data = bytes.subarray(at + 8, at + 8 + length);
    const end = data.indexOf(0);
    if ((kind === "tEXt" || kind === "iTXt") && String.fromCharCode(...data.subarray(0, end)) === keyword) {
      if (kind === "tEXt") return new TextDecoder("latin1").decode(data.subarray(end + 1));
      const language = data.indexOf(0, end + 3);
      return new TextDecoder().decode(data.subarray(data.indexOf(0, language + 1) + 1));
    }
    at += 12 + length;
  }
  return null;
}

/** The request of a picture's file, as plain values. Throws Error with words for people. */
export async function requestIn(file) {
  const text = textOf(new Uint8Array(await file.arrayBuffer()), CHUNK);
  if (text === null) throw new Error(`${file.name} holds no settings: another program made it, or saved it anew.`);
  let content = null;
  try {
    content = JSON.parse(text);
  } catch {
    // said below
  }
  if (content?.format > FORMAT) throw new Error(`${file.name} was made by a newer ScaleCrafter: update this one.`);
  if (typeof content?.request !== "object" || content.request === null) throw new Error(`The settings in ${file.name} are damaged. Choose another picture.`);
  return content.request;
}
