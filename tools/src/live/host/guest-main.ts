/**
 * What runs in the guest, in Node, as it is: scripts against the kernel that it finds itself on. Its arguments say where the answers go, and `nesting` where the unit nests.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { linuxHost } from '@remora/host-linux';
import { Host } from '@remora/machine';
import { scriptsOf, transcript } from './transcript.js';
import { IOMMU } from './paths.js';
import { EDU, SECOND_EDU } from './rig.js';

const WAIT_MS = 5;
const sleeping = new Int32Array(new SharedArrayBuffer(4));

const [target, what] = process.argv.slice(2);
const host = new Host(linuxHost());
const rig = {
  host,
  syscalls: host.platform.process('scripts'),
  devices: [EDU, SECOND_EDU],
  wait: () => void Atomics.wait(sleeping, 0, 0, WAIT_MS),
  pause: () => new Promise<void>(resolve => setTimeout(resolve, WAIT_MS)),
} as const;
writeFileSync(
  target!,
  `${JSON.stringify(await transcript(rig, scriptsOf({ iommufd: existsSync(IOMMU), nesting: what === 'nesting' })))}\n`,
);
