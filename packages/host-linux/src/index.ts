export * from './file-memory.js';
export * from './koffi.js';
export * from './linux-host.js';
export * from './linux-process.js';
export * from './linux-syscalls.js';
export * from './obstacles.js';
export * from './poller.js';
