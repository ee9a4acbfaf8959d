import type { VfioDevice } from '../vfio/device.js';

const FIRST = 0x100;
/** PCI_EXT_CAP_ID_PRI. */
const PAGE_REQUEST_INTERFACE = 0x13;

/** Whether the device's configuration space offers page requests. */
export function hasPageRequests(device: VfioDevice): boolean {
  const seen = new Set<number>();
  for (let at = FIRST; at >= FIRST && !seen.has(at);) {
    seen.add(at);
    const header = device.readConfig(at, 4);
    if (header < 0) return false;
    if ((header & 0xffff) === PAGE_REQUEST_INTERFACE) return true;
    at = (header >>> 20) & ~3;
  }
  return false;
}
