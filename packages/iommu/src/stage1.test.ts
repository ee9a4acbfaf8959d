import test from 'ava';
import { sameStage1, type Stage1Config } from './stage1.js';

const attributes = { format: 1 as const, sre: 0, eafe: 0, pcd: 0, pwt: 0, emte: 0, cd: 0, pat: -1, emt: 0 };
const config: Stage1Config = { rootHi: -1, rootLo: -4096, addressWidth: 48, attributes };

test('words are compared by their bits', t => {
  const unsigned = {
    ...config,
    rootHi: 0xffff_ffff,
    rootLo: 0xffff_f000,
    attributes: { ...attributes, pat: 0xffff_ffff },
  };
  t.true(sameStage1(config, unsigned));
});

test('any difference counts', t => {
  for (const key of ['rootHi', 'rootLo', 'addressWidth'] as const) {
    t.false(sameStage1(config, { ...config, [key]: 9 }), key);
  }
  for (const key of Object.keys(attributes)) {
    t.false(sameStage1(config, { ...config, attributes: { ...attributes, [key]: 9 } }), key);
  }
});
