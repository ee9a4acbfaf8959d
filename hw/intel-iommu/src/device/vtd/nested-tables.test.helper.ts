/** Nested translation with guest addresses equal to real ones, except where a test narrows a page's second-stage permission. */
import { FULL, scalableBench, type ScalableTables, type Values } from '../bench.test.helper.js';

/** Second-stage permission bits by first-stage table, where they are not R and W. */
export interface Narrowed {
  readonly root?: bigint;
  readonly table?: bigint;
  readonly page?: bigint;
}

/** The input page that is mapped, and where it leads. */
export const NESTED_IOVA = 0x5000n;
export const NESTED_PAGE = 0x39_9000n;

export interface NestedTables extends ScalableTables {
  /** Byte addresses of the first-stage entries on the way, top down. */
  readonly entries: readonly number[];
}

/** `pte` are the attribute bits of every first-stage entry: 0x67 has A and D set. */
export function nestedTables(entry: Values = {}, narrowed: Narrowed = {}, pte = 0x67n): NestedTables {
  const tables = scalableBench(FULL, { pgtt: 3, ...entry }, { paside: 1 });
  const { bench, first, second } = tables;
  const levels = Number(entry['aw'] ?? 2) + 2;
  bench.mapAt(first, 4, NESTED_IOVA, NESTED_PAGE | pte, pte);
  const frames = [first];
  const entries = [0, 1, 2, 3].map(depth => {
    const address = frames[depth]! * 4096 + (depth === 3 ? 5 * 8 : 0);
    frames.push(Number(bench.get64(address) >> 12n) & 0xff_ffff);
    return address;
  });
  const rights = [narrowed.root, narrowed.table, undefined, undefined, narrowed.page];
  for (const [depth, frame] of frames.entries()) {
    const page = BigInt(frame) << 12n;
    bench.mapAt(second, levels, page, page | (rights[depth] ?? 3n), 3n);
  }
  return { ...tables, entries };
}
