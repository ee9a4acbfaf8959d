/** Rule `no-bigint`: hot modules compute on 32-bit integers; BigInt is for edges (design.md, Numbers). */
import type { Rule } from 'eslint';
import { HOT_MODULES, isTest } from './rooms.js';
import { pathInRepository } from './repository-path.js';

const NAMES = /^(BigInt|BigInt64Array|BigUint64Array|[gs]etBig(Ui|I)nt64|bigOf|big|setBig)$/;

export function isHot(file: string): boolean {
  return !isTest(file) && HOT_MODULES.some(module => file.startsWith(module));
}

export const noBigint: Rule.RuleModule = {
  meta: { type: 'problem', docs: { description: 'no BigInt in hot modules' }, schema: [] },
  create(context) {
    if (!isHot(pathInRepository(context.filename))) return {};
    const report = (node: Rule.Node): void =>
      context.report({ node, message: 'no BigInt in a hot module: use (hi, lo) words, or a number below 2^53' });
    return {
      Literal(node) {
        if ('bigint' in node) report(node);
      },
      Identifier(node) {
        if (NAMES.test(node.name)) report(node);
      },
    };
  },
};
