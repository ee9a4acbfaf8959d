/** Rule `layers`: a room imports strictly downwards, as the table of rooms says. Tests may import anything. */
import type { Rule } from 'eslint';
import { isTest, ROOMS, roomOf, type Room } from './rooms.js';
import { pathInRepository } from './repository-path.js';

/** Why `specifier` may not be imported from `file`; undefined if it may. Exported for its tests. */
export function importProblem(file: string, specifier: string): string | undefined {
  const name = roomOf(file);
  if (name === undefined || isTest(file)) return undefined;
  const room = ROOMS[name]!;
  if (specifier.startsWith('.')) return relativeProblem(file, specifier, room);
  const target = packageOf(specifier);
  if (target === name) return `import within ${name} by a relative path`;
  if (target in ROOMS) {
    if (room.imports.includes(target)) return undefined;
    return `${name} may not import ${target}; it may import ${room.imports.join(', ') || 'no other room'}`;
  }
  return outsideProblem(file, name, room, target);
}

function outsideProblem(file: string, name: string, room: Room, target: string): string | undefined {
  // A plug-in module is bindings, and only that.
  if (target === 'inversify' && room.folder.startsWith('hw/') && file.endsWith('/plugin.ts')) return undefined;
  const allowed = room.outside.some(
    entry =>
      entry === target ||
      (entry === 'node:*' && target.startsWith('node:')) ||
      (entry === '*' && !target.startsWith('node:')),
  );
  return allowed
    ? undefined
    : `${name} may not import ${target}; from outside it may import ${room.outside.join(', ') || 'nothing'}`;
}

function relativeProblem(file: string, specifier: string, room: Room): string | undefined {
  const parts = file.split('/').slice(0, -1);
  for (const step of specifier.split('/')) {
    if (step === '..') parts.pop();
    else if (step !== '.') parts.push(step);
  }
  const target = parts.join('/');
  if (!target.startsWith(`${room.folder}/src/`))
    return `${specifier} leaves ${room.folder}/src: import the package by its name`;
  if (target.endsWith('.test.js')) return 'nothing imports tests';
  return undefined;
}

function packageOf(specifier: string): string {
  if (specifier.startsWith('node:')) return specifier;
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
}

export const layers: Rule.RuleModule = {
  meta: { type: 'problem', docs: { description: 'imports go strictly downwards' }, schema: [] },
  create(context) {
    const file = pathInRepository(context.filename);
    const check = (node: Rule.Node, source: unknown): void => {
      if (typeof source !== 'string') return;
      const problem = importProblem(file, source);
      if (problem !== undefined) context.report({ node, message: problem });
    };
    return {
      ImportDeclaration: node => check(node, node.source.value),
      ExportAllDeclaration: node => check(node, node.source.value),
      ExportNamedDeclaration: node => check(node, node.source?.value),
      ImportExpression: node => check(node, node.source.type === 'Literal' ? node.source.value : undefined),
    };
  },
};
