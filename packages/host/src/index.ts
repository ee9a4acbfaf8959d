export * from './syscalls.js';
