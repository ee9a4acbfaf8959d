/** What an invalidation descriptor must do (vtd.md 5), with reserved bits as masks of the reference instead of declared layouts. */
import type { Facts } from './facts.js';
import type { Shadow } from './shadow.js';

/** IQERCD.IQEI. */
export const INVALID_TYPE = 3;
export const RESERVED_FIELD = 4;
export const INVALID_WIDTH = 5;
export const INVALID_MODE = 7;

export interface StatusWrite {
  readonly address: bigint;
  readonly data: number;
}

export interface Verdict {
  readonly type: number;
  /** IQEI of the error that it must be; undefined if it is in order. */
  readonly error?: number;
  /** A wait's status write. If that cannot be stored, the descriptor is an error after all. */
  readonly status?: StatusWrite;
  readonly interrupt?: boolean;
}

const ALL = (1n << 64n) - 1n;
/** Reserved bits of the first two quadwords, by type; the others are reserved wholly. */
const RESERVED: Readonly<Record<number, readonly [bigint, bigint]>> = {
  1: [0xfffc_0000_0000_f1c0n, ALL],
  2: [0xffff_ffff_0000_f100n, 0xf80n],
  3: [0xffff_0000_ffe0_f1f0n, 0xffen],
  4: [0xffff_0000_07ff_f1e0n, ALL],
  5: [0xffff_f180n, 3n],
  6: [0xfff0_0000_0000_f1c0n, 0xf80n],
  7: [0xfff0_0000_0000_f1c0n, ALL],
  8: [0xfff0_0000_0000_f000n, 0x7fen],
};
const WAIT = 5;

export function typeOf(q: readonly bigint[]): number {
  return Number((q[0]! & 0xfn) | ((q[0]! >> 5n) & 0x70n));
}

/** Judges the descriptor `q` (4 quadwords) and takes what it invalidates out of the shadow. `mode` is the latched TTM. */
export function executeDescriptor(
  facts: Facts,
  shadow: Shadow,
  q: readonly bigint[],
  mode: number,
  wide: boolean,
): Verdict {
  const type = typeOf(q);
  const problem = problemOf(facts, q, type, mode, wide);
  if (problem !== 0) return { type, error: problem };
  const [first, second] = q as [bigint, bigint];
  const field = (value: bigint, msb: number, lsb: number): number =>
    Number(BigInt.asUintN(msb - lsb + 1, value >> BigInt(lsb)));
  const granularity = field(first, 5, 4);
  const domain = field(first, 31, 16);
  const address = second & ~0xfffn;
  switch (type) {
    case 1:
      shadow.contextCache(granularity, domain, field(first, 47, 32), field(first, 49, 48), mode !== 0);
      break;
    case 2:
      shadow.iotlb(granularity, domain, address, field(second, 5, 0), field(second, 6, 6) === 1);
      break;
    case WAIT:
      return {
        type,
        interrupt: field(first, 4, 4) === 1,
        ...(field(first, 5, 5) === 1 ? { status: { address: second, data: field(first, 63, 32) } } : {}),
      };
    case 6:
      shadow.pasidIotlb(
        granularity,
        domain,
        field(first, 51, 32),
        address,
        field(second, 5, 0),
        field(second, 6, 6) === 1,
      );
      break;
    case 7:
      shadow.pasidCache(granularity, domain, field(first, 51, 32));
      break;
    default:
  }
  return { type };
}

function problemOf(facts: Facts, q: readonly bigint[], type: number, mode: number, wide: boolean): number {
  if (mode === 2) return INVALID_MODE;
  if (mode !== 0 && !wide) return INVALID_WIDTH;
  const reserved = RESERVED[type];
  // Page group responses (9) need page requests, which no configuration offers.
  if (reserved === undefined) return INVALID_TYPE;
  if (mode === 0 && type > WAIT) return INVALID_TYPE;
  if ((type === 3 || type === 8) && !facts.deviceTlb) return INVALID_TYPE;
  if (type === 4 && !facts.interruptRemapping) return INVALID_TYPE;
  if ((q[0]! & reserved[0]) !== 0n || (q[1]! & reserved[1]) !== 0n || q[2] !== 0n || q[3] !== 0n) return RESERVED_FIELD;
  const granularity = Number((q[0]! >> 4n) & 3n);
  const mask = Number(q[1]! & 63n);
  const refused: Readonly<Record<number, boolean>> = {
    1: granularity === 0,
    2: granularity === 0 || (granularity === 3 && mask > facts.maxAddressMask),
    4: (granularity & 1) === 1 && Number((q[0]! >> 27n) & 31n) > facts.maxHandleMask,
    6: granularity < 2,
    7: granularity === 2,
  };
  return refused[type] === true ? RESERVED_FIELD : 0;
}
