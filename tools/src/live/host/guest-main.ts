/**
 * What runs in the guest, in Node, as it is: scripts against the kernel that it finds itself on. Arguments: where the answers go, and the names of
 * scripts; the environment names the devices.
 */
import { writeFileSync } from 'node:fs';
import { linuxSyscalls } from '@remora/host-linux';
import { transcript } from './transcript.js';
import { EDU, SECOND_EDU } from './rig.js';

const WAIT_MS = 5;
const sleeping = new Int32Array(new SharedArrayBuffer(4));

const [target, ...names] = process.argv.slice(2);
const rig = {
  syscalls: linuxSyscalls(),
  devices: [EDU, SECOND_EDU],
  wait: () => void Atomics.wait(sleeping, 0, 0, WAIT_MS),
} as const;
writeFileSync(target!, `${JSON.stringify(transcript(rig, names))}\n`);
