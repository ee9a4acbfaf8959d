// What cannot be compiled is said; what can is loaded by a live guest (test/src/dsa/live.test.ts).
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { buildKernelModule, missingCompiler } from './kernel-module.js';
import { LiveError } from './peers/live-error.js';

const withCompiler = missingCompiler() === undefined ? test : test.skip;

withCompiler('headers that are none: the compiler says which it misses', t => {
  const folder = mkdtempSync(join(tmpdir(), 'remora-module-'));
  try {
    const headers = join(folder, 'linux-headers-6.1.0-50-amd64');
    mkdirSync(headers);
    writeFileSync(join(headers, 'Module.symvers'), '');
    t.throws(() => buildKernelModule('copies', headers, folder), {
      instanceOf: LiveError,
      message: /^gcc: .*compiler-version\.h: No such file/,
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
