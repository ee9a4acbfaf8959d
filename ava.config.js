import './.ci/tap-timeouts.js';

// Tests run on compiled output: types are checked once, by `npm run build`, not per test file.
export default {
  files: [
    'packages/*/dist/**/*.test.js',
    'hw/*/dist/**/*.test.js',
    'machines/dist/**/*.test.js',
    'tools/dist/**/*.test.js',
    'test/dist/**/*.test.js',
  ],
  nodeArguments: ['--enable-source-maps'],
  // Files do not see each other's descriptors, heaps and children.
  workerThreads: false,
  // For what hangs: how long a test takes depends on what else the machine does.
  timeout: '10m',
};
