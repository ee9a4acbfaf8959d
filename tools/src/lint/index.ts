/** Remora's own lint rules: the layer table, import direction, logger names, no BigInt on hot paths. */
import type { ESLint } from 'eslint';
import { layers } from './layers.js';
import { logNames } from './log-names.js';
import { noBigint } from './no-bigint.js';

export const plugin: ESLint.Plugin = {
  meta: { name: 'remora' },
  rules: { layers, 'log-names': logNames, 'no-bigint': noBigint },
};
