/** `remora host`: whether the Linux that we run on lends a PCI function, and what is missing. */
import { linuxSyscalls, obstacles } from '@remora/host-linux';
import { formatBdf, parseBdf } from '@remora/pci';
import type { Streams } from './streams.js';

export interface HostCommandOptions {
  readonly iommufd?: boolean;
}

/** Returns the exit code: 0 if the function at `address` can be lent, else 1. @throws ConfigError without koffi. */
export function hostCommand(address: string, options: HostCommandOptions, { stdout }: Streams): number {
  const { bus = 0, devfn, segment } = parseBdf('function', address);
  const bdf = formatBdf(bus, devfn, segment);
  const found = obstacles(linuxSyscalls('host'), bdf, options);
  for (const { what, remedy } of found) stdout.write(`${what}\n  ${remedy}\n`);
  if (found.length === 0) stdout.write(`${bdf} can be lent: vfio-pci,host=${bdf}\n`);
  return found.length === 0 ? 0 : 1;
}
