// From a shape and an enlargement to the width and height of a picture that a model can make.

export const SHAPES = {
  "Square 1:1": [1, 1], "Landscape 3:2": [3, 2], "Wide 16:9": [16, 9], "Portrait 2:3": [2, 3], "Tall 9:16": [9, 16],
};
/** By how much the sides of a square grow over the model's native ones. */
export const ENLARGEMENTS = {
  "As trained": 1, "4× pixels": 2, "9× pixels": 3, "16× pixels": 4, "64× pixels": 8,
};
export const DEFAULT_SHAPE = "Square 1:1";
export const DEFAULT_ENLARGEMENT = "4× pixels";
const LARGEST_SIDE = 16384;

/** [width, height] in pixels: about that many, of that shape, and no more than the server makes. */
export function presetSize(facts, shape, enlargement, mostPixels) {
  const [wide, high] = SHAPES[shape];
  const native = (facts.width * facts.height) / 4; // the size of a request without one is twice the native side
  const pixels = Math.min(native * ENLARGEMENTS[enlargement] ** 2, mostPixels);
  const sides = [Math.sqrt((pixels * wide) / high), Math.sqrt((pixels * high) / wide)];
  const fitted = (round) =>
    sides.map((side) => Math.min(Math.max(round(side / facts.size_multiple), 1), Math.floor(LARGEST_SIDE / facts.size_multiple)) * facts.size_multiple);
  const nearest = fitted(Math.round);
  return nearest[0] * nearest[1] <= mostPixels ? nearest : fitted(Math.floor);
}
