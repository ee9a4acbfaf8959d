export * from './live-recorder.js';
export * from './recording-file.js';
export * from './unit-recorder.js';
