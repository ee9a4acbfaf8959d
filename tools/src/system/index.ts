export { type CommandLine, parseCommandLine } from './command-line.js';
export { CommandLineError } from './mistake.js';
export { System } from './system.js';
