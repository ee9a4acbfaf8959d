/** One ioctl that a fuzzed process makes. */
import { type StructType, viewOf } from '@remora/uapi';
import type { FuzzState } from './state.js';

export interface FuzzCall {
  readonly fd: number;
  readonly request: number;
  readonly argument: Uint8Array | number | undefined;
  /** What the process remembers if it succeeds. `view` is the argument as it came back. */
  readonly done?: ((result: number, view: DataView) => unknown) | undefined;
}

/** Makes a call, or undefined if the process lacks what the call is about. */
export type FuzzAction = (state: FuzzState) => FuzzCall | undefined;

/**
 * Spoils one argument in thirteen: a size that is not the structure's, bytes behind it, a bit or a word that is something else, fewer bytes than it
 * says, or no structure at all.
 */
export function spoiled(state: FuzzState, bytes: Uint8Array): Uint8Array | number | undefined {
  if (!state.chance(8)) return bytes;
  const view = viewOf(bytes);
  const { random } = state;
  switch (random.below(9)) {
    case 0:
      view.setUint32(0, random.below(bytes.length), true);
      return bytes;
    case 1: {
      const longer = new Uint8Array(bytes.length + 8);
      longer.set(bytes);
      viewOf(longer).setUint32(0, longer.length, true);
      if (state.chance(50)) longer[bytes.length + random.below(8)] = 1;
      return longer;
    }
    case 2:
      return bytes.subarray(0, random.below(bytes.length));
    case 3:
      return state.pick([undefined, random.below(16)]);
    case 4:
    case 5: {
      const at = random.below(bytes.length);
      bytes[at] = bytes[at]! ^ (1 << random.below(8));
      return bytes;
    }
    default:
      if (bytes.length >= 8) view.setUint32(4 + 4 * random.below(Math.floor(bytes.length / 4) - 1), state.word(), true);
      return bytes;
  }
}

/** Sets a bit of the structure's padding, now and then. */
export function reserved(state: FuzzState, struct: StructType, bytes: Uint8Array): void {
  if (struct.padding.length === 0 || !state.chance(1)) return;
  const [start, end] = state.pick(struct.padding);
  bytes[start + state.random.below(end - start)] = 1;
}
