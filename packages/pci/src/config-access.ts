/** Configuration cycles from a root bus: by bus number, as software last assigned them, and devfn. */
import type { PciBus } from './bus.js';
import type { PciFunction } from './function.js';
import { Config } from './registers.js';

/** The bus that answers to `number` at or below `from`; undefined if no bridge forwards to it. */
export function busNumbered(from: PciBus, number: number): PciBus | undefined {
  if (from.number === number) return from;
  for (const fn of from.functions) {
    if (fn?.secondary === undefined) continue;
    const secondary = fn.config.get8(Config.SECONDARY_BUS);
    if (secondary !== 0 && secondary <= number && number <= fn.config.get8(Config.SUBORDINATE_BUS)) {
      return busNumbered(fn.secondary, number);
    }
  }
  return undefined;
}

/** The function at (`bus`, `devfn`) at the moment. */
export function functionAt(root: PciBus, bus: number, devfn: number): PciFunction | undefined {
  return busNumbered(root, bus)?.functions[devfn];
}

/** The function with this requester id (bus << 8 | devfn) at the moment: where an IOMMU's messages to it go. */
export function functionByRequesterId(root: PciBus, requesterId: number): PciFunction | undefined {
  return functionAt(root, (requesterId >>> 8) & 0xff, requesterId & 0xff);
}

/** Reads 1, 2 or 4 bytes; an absent function answers all ones. */
export function configRead(root: PciBus, bus: number, devfn: number, offset: number, size: number): number {
  return functionAt(root, bus, devfn)?.config.read(offset, size) ?? 2 ** (8 * size) - 1;
}

/** Writes 1, 2 or 4 bytes; to an absent function without effect. */
export function configWrite(
  root: PciBus,
  bus: number,
  devfn: number,
  offset: number,
  value: number,
  size: number,
): void {
  functionAt(root, bus, devfn)?.config.write(offset, value, size);
}
