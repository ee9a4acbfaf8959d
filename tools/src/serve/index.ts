export * from './qemu-command.js';
export * from './served-machine.js';
