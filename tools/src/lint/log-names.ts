/** Rule `log-names`: a logger's namespace mirrors its room, `remora:hw:intel-iommu:queue` or `remora:host-sim:map`. */
import type { Rule } from 'eslint';
import { isTest, ROOMS, roomOf } from './rooms.js';
import { pathInRepository } from './repository-path.js';

/** The namespace of a room's loggers: its folder without `packages`. Exported for its tests. */
export function namespaceOf(file: string): string | undefined {
  const name = roomOf(file);
  if (name === undefined) return undefined;
  return ['remora', ...ROOMS[name]!.folder.split('/').filter(part => part !== 'packages')].join(':');
}

export const logNames: Rule.RuleModule = {
  meta: { type: 'problem', docs: { description: 'logger namespaces mirror paths' }, schema: [] },
  create(context) {
    const file = pathInRepository(context.filename);
    const expected = namespaceOf(file);
    if (expected === undefined || isTest(file)) return {};
    return {
      CallExpression(node) {
        if (node.callee.type !== 'Identifier' || node.callee.name !== 'logger') return;
        const [first] = node.arguments;
        if (first?.type !== 'Literal' || typeof first.value !== 'string') {
          context.report({ node, message: 'a logger is named by a string literal' });
        } else if (first.value !== expected && !first.value.startsWith(`${expected}:`)) {
          context.report({ node: first, message: `"${first.value}" should be "${expected}" or "${expected}:<part>"` });
        }
      },
    };
  },
};
