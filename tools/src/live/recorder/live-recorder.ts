import { readFileSync } from 'node:fs';
import type { Peers } from '../peers/peers.js';
import type { RecordingFile } from './recording-file.js';
import { UnitRecorder } from './unit-recorder.js';

/** What ran, and whether a host lends the devices below the unit. */
export interface RecordedMode {
  readonly name: string;
  readonly lending?: unknown;
}

/** Of a boot's unit, into `file`: its command line says what ran. */
export function liveRecorder(
  file: RecordingFile,
  { name, lending }: RecordedMode,
  { qemuVersion, kernel }: Peers,
): UnitRecorder {
  const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  return new UnitRecorder({
    write: line => file.write(line),
    version,
    lent: lending !== undefined,
    command: `remora live --mode ${name}: Linux ${kernel.version}, QEMU ${qemuVersion}`,
  });
}
