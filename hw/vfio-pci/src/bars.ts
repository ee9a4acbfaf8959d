/** The BARs of a host function in the guest: registers that are forwarded, access by access. */
import { Region, type Log, type MmioOps } from '@remora/core';
import type { VfioDevice, VfioRegion } from '@remora/host';
import type { BarOptions, PciFunction } from '@remora/pci';
import type { HostHeader } from './header.js';
import type { VfioPciTrace } from './trace-events.js';

const BAR_COUNT = 6;
/** Bits of a BAR register (PCI 3.0 6.2.5.1). */
const BarBits = { IO: 0x1, TYPE: 0x6, TYPE_64: 0x4, PREFETCH: 0x8 } as const;

/**
 * Gives `fn` the BARs that the host function has, with their sizes and types, at the same registers; `except` is left out. Returns the
 * registers that stay free.
 */
export function addHostBars(
  fn: PciFunction,
  device: VfioDevice,
  header: HostHeader,
  log: Log,
  except: number | undefined,
  trace: VfioPciTrace,
): number[] {
  const free: number[] = [];
  for (let index = 0; index < BAR_COUNT; index++) {
    const region = device.regions[index];
    if (region === undefined || region.size === 0) {
      free.push(index);
      continue;
    }
    const { vfio_region_setup: setup } = trace;
    if (setup.on) setup.emit(device.bdf, index, `${fn.name}.bar${index}`, region.flags, region.offset, region.size);
    const options = barOptions(header.bar(index));
    if (index !== except) fn.addBar(index, forwarded(`${fn.name}.bar${index}`, device, region, log, trace), options);
    if (options.type === 'mem64') index++;
  }
  return free;
}

function barOptions(register: number): BarOptions {
  if ((register & BarBits.IO) !== 0) return { type: 'io' };
  const type = (register & BarBits.TYPE) === BarBits.TYPE_64 ? 'mem64' : 'mem32';
  return { type, prefetchable: (register & BarBits.PREFETCH) !== 0 };
}

/** What the host refuses reads as ones, and a refused write has no effect: as on a bus where nobody answers. */
function forwarded(
  name: string,
  device: VfioDevice,
  { index, size }: VfioRegion,
  log: Log,
  trace: VfioPciTrace,
): Region {
  const buffers = [1, 2, 4].map(length => new Uint8Array(length));
  const bufferOf = (length: number): Uint8Array => buffers[length >>> 1]!;
  const ops: MmioOps = {
    valid: { min: 1, max: 8 },
    impl: { min: 1, max: 4 },
    read: (offset, length) => {
      const bytes = bufferOf(length);
      const result = device.readRegion(index, offset, bytes);
      if (result < 0) {
        log.warn('read of %s at %d failed: %d', name, offset, result);
        bytes.fill(0xff);
      }
      let value = 0;
      for (let i = length - 1; i >= 0; i--) value = (value << 8) | bytes[i]!;
      const { vfio_region_read: did } = trace;
      if (did.on) did.emit(name, offset, length, value);
      return value >>> 0;
    },
    write: (offset, value, length) => {
      const { vfio_region_write: does } = trace;
      if (does.on) does.emit(name, offset, value, length);
      const bytes = bufferOf(length);
      for (let i = 0; i < length; i++) bytes[i] = value >>> (8 * i);
      const result = device.writeRegion(index, offset, bytes);
      if (result < 0) log.warn('write of %s at %d failed: %d', name, offset, result);
    },
  };
  return Region.mmio(name, size, ops);
}
