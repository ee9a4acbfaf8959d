/** Pages from somewhere, mapped in an I/O address space on the caller's account. */
import { Access, Errno, PAGE_BYTES } from '@remora/core';
import type { IommufdContext } from './context.js';
import { IoPages, type PageSource } from './io-pages.js';
import type { Ioas } from './ioas.js';

export interface Placement {
  /** First byte, in a process' memory or in a file. */
  readonly address: bigint;
  readonly length: bigint;
  /** Undefined: wherever there is room. */
  readonly iova: bigint | undefined;
  /** Access bits. */
  readonly access: number;
}

const U64_MAX = 2n ** 64n - 1n;
const PAGE = BigInt(PAGE_BYTES);

/** Returns the IOVA, or a negated errno as Ioas.map. `sourceOf` is asked once the numbers make sense; its errno is passed on. */
export function mapSource(
  context: IommufdContext,
  ioas: Ioas,
  sourceOf: () => PageSource | number,
  { address, length, iova, access }: Placement,
): bigint | number {
  if (address + length > U64_MAX) return -Errno.EOVERFLOW;
  if (length === 0n || length > U64_MAX - PAGE) return -Errno.EINVAL;
  const source = sourceOf();
  if (typeof source === 'number') return source;
  const offset = address % PAGE;
  const count = Number((offset + length + PAGE - 1n) / PAGE);
  const pages = new IoPages(context.kernel, source, count, (access & Access.WRITE) !== 0, context.payer);
  pages.hold();
  const result = ioas.map([{ pages, offset, length }], address, iova, access);
  pages.drop();
  context.kernel.note('ioas-map', { ioas: ioas.id, pages: count, access, result: String(result) });
  return result;
}
