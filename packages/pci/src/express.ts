/** The PCI Express capability (PCIe 7.5.3). */
import type { PciFunction } from './function.js';
import { ExpressLayout } from './layouts.js';
import { Capability, ExpressType } from './registers.js';

export interface ExpressOptions {
  /** Port number, for root and downstream ports. */
  readonly port?: number;
  /** It sends a TLP prefix, as a function with PASIDs does: software looks for that before it enables them (PCIe 7.5.3.15). */
  readonly endToEndPrefixes?: boolean;
}

/** 2.5 GT/s, one lane: what a virtual link claims. */
const LINK = { speed: 1, width: 1 } as const;

/** Adds the capability to `fn`; an endpoint's function-level reset resets it. Returns the offset. */
export function addExpress(fn: PciFunction, type: ExpressType, options: ExpressOptions): number {
  const port = type === ExpressType.ROOT_PORT || type === ExpressType.DOWNSTREAM_PORT;
  const endpoint = type === ExpressType.ENDPOINT || type === ExpressType.LEGACY_ENDPOINT;
  const resettable = endpoint || type === ExpressType.INTEGRATED_ENDPOINT;
  const link = type !== ExpressType.INTEGRATED_ENDPOINT;
  const values = ExpressLayout.encode({
    version: 2,
    type,
    slot: port ? 1 : 0,
    roleBasedErrors: 1,
    functionLevelReset: resettable ? 1 : 0,
    extendedTag: 1,
    relaxedOrdering: 1,
    noSnoop: 1,
    readRequest: 2,
    linkSpeed: link ? LINK.speed : 0,
    linkWidth: link ? LINK.width : 0,
    port: options.port ?? 0,
    currentSpeed: link ? LINK.speed : 0,
    currentWidth: link ? LINK.width : 0,
    endToEndPrefixes: options.endToEndPrefixes === true ? 1 : 0,
    maxEndToEndPrefixes: options.endToEndPrefixes === true ? 1 : 0,
  });
  const writable = ExpressLayout.encode({
    controlErrors: 0xf,
    relaxedOrdering: 1,
    payload: 7,
    extendedTagEnable: 1,
    noSnoop: 1,
    readRequest: 7,
    initiateFlr: resettable ? 1 : 0,
  });
  const offset = fn.addCapability(
    Capability.EXPRESS,
    new Uint8Array(values.buffer, 2),
    new Uint8Array(writable.buffer, 2),
  );
  const { initiateFlr } = ExpressLayout.fields;
  fn.config.onWrite({ start: offset + 8, end: offset + 10 }, () => {
    if (initiateFlr.get(fn.config.words, offset / 4) !== 0) fn.reset();
  });
  return offset;
}
