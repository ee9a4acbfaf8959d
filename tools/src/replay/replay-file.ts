import type { UnitFactory } from '@hw/intel-iommu';
import { ReplayEngine } from './replay-engine.js';
import { replayConfig } from './replay-config.js';
import type { ReplayResult } from './replay-result.js';
import { readTrace, type Progress } from './trace-reader.js';

export interface ReplayOptions {
  readonly onProgress?: Progress;
  /** Makes the unit that is judged; default: the model's own. */
  readonly makeUnit?: UnitFactory;
}

/**
 * Replays the recording `file`, gzipped or plain, on a model that is configured from its header.
 * @throws TraceError if the file is no recording, is corrupt or truncated, or records a unit that cannot be modelled.
 */
export async function replayFile(file: string, options: ReplayOptions = {}): Promise<ReplayResult> {
  let engine: ReplayEngine | undefined;
  for await (const item of readTrace(file, options.onProgress)) {
    if ('cap' in item) engine = new ReplayEngine(file, replayConfig(file, item), options.makeUnit);
    else engine!.step(item);
  }
  return engine!.result();
}
