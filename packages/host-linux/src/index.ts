export * from './file-memory.js';
export * from './koffi.js';
export * from './linux-syscalls.js';
export * from './poller.js';
