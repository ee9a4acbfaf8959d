/** What is in a live guest with a Data Streaming Accelerator. */
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildKernelModule } from '../kernel-module.js';
import { LiveError } from '../peers/live-error.js';
import type { Kernel } from '../peers/peers.js';
import { copyProgram } from './copy-program.js';
import type { DsaMode } from './dsa-modes.js';

const script = (name: string): string => fileURLToPath(new URL(`../../../live/${name}`, import.meta.url));
const DRIVERS = 'kernel/drivers/dma/idxd';
const DRIVER = /^idxd(_bus)?\.ko(\.xz)?$/;

/** Modules of our own, in tools/live/modules. */
const MODULES = { copies: ['movdir64b', 'copies'], faults: ['movdir64b', 'copies'], pasids: ['pasids'] } as const;

/** Files by their paths in the guest; what is made for it is put into `folder`. @throws LiveError if the kernel does not have what it takes. */
export function guestFiles(mode: DsaMode, kernel: Kernel, folder: string): Record<string, string> {
  const { headers, version } = kernel;
  if (headers === undefined) throw new LiveError(`Linux ${version} comes without its headers`);
  const own = MODULES[mode.guest].map(name => [`${name}.ko`, buildKernelModule(name, headers, folder)] as const);
  const modules = Object.fromEntries(own);
  if (mode.guest === 'pasids') return { init: script('vcmd.sh'), ...modules };
  const driver = { 'lib/idxd.sh': script('idxd.sh'), ...driverFiles(kernel) };
  if (mode.guest === 'faults') return { init: script('dsa-faults.sh'), ...modules, ...driver };
  const copy = join(folder, 'copy');
  // Page requests have no way through a container.
  writeFileSync(copy, copyProgram({ touches: mode.lending === 'container' }));
  return { init: script('dsa.sh'), copy, ...modules, ...driver };
}

/** The modules of the driver. */
function driverFiles({ modules, version }: Kernel): Record<string, string> {
  const folder = join(modules ?? '', DRIVERS);
  const names = modules !== undefined && existsSync(folder) ? readdirSync(folder) : [];
  const found = names.filter(name => DRIVER.test(name));
  if (found.length !== 2) throw new LiveError(`Linux ${version} has no idxd: its generic flavour has`);
  return Object.fromEntries(found.map(name => [name, join(folder, name)]));
}
