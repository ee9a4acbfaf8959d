/** State of a machine: what its devices write when it is saved, and read when it is loaded. */
export type { StateSection, StateValue } from './state/section.js';
export { sectionBytes, sectionFrom } from './state/section-bytes.js';
export { StateError } from './state/state-error.js';
export { StateReader, type IntegerRange } from './state/state-reader.js';
export { StateWriter } from './state/state-writer.js';
