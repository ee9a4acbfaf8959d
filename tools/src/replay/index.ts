export type {
  AtsLine,
  DeviceRequestLine,
  InvalidationDoneLine,
  PageRequestLine,
  PageResponseLine,
} from './ats-lines.js';
export type { HostCallLine, HostFaultLine, HostLine, VirtualCommandLine } from './host-lines.js';
export { guestRecordings, liveRecordings, randomRecordings, shippedRecordings } from './recordings.js';
export { REPLAY_USAGE, runReplay, type CommandStreams } from './replay-command.js';
export { replayConfig } from './replay-config.js';
export { ReplayEngine } from './replay-engine.js';
export { replayFile, type ReplayOptions } from './replay-file.js';
export { ReplayMemory } from './replay-memory.js';
export { jsonReport, textReport } from './replay-report.js';
export type { Difference, ReplayResult } from './replay-result.js';
export { TraceError } from './trace-error.js';
export type { TraceHeader } from './trace-header.js';
export {
  parseTraceLine,
  type DeviceTlbLine,
  type InterruptLine,
  type MemoryLine,
  type Place,
  type RegisterLine,
  type TraceLine,
  type TranslationLine,
} from './trace-line.js';
export type { TraceOperation } from './trace-operations.js';
export { readTrace, type Progress } from './trace-reader.js';
export type { Words } from './words.js';
