import { readFileSync } from 'node:fs';
import type { LiveMode } from '../modes.js';
import type { Peers } from '../peers/peers.js';
import type { RecordingFile } from './recording-file.js';
import { UnitRecorder } from './unit-recorder.js';

/** Of a boot's unit, into `file`: its command line says what ran. */
export function liveRecorder(file: RecordingFile, { name }: LiveMode, { qemuVersion, kernel }: Peers): UnitRecorder {
  const { version } = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  return new UnitRecorder({
    write: line => file.write(line),
    version,
    command: `remora live --mode ${name}: Linux ${kernel.version}, QEMU ${qemuVersion}`,
  });
}
