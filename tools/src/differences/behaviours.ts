/** The departures of the compatible profile, read from where each stands once: the flag with its docstring, and its guest program. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';

const DEVICE = 'hw/intel-iommu/src/device';
const PROGRAMS = /^(?!departure\.).*\.test\.helper\.ts$/;

export interface BehaviourDifference {
  /** Name in behaviour.ts. */
  readonly flag: string;
  /** What the flag says. */
  readonly doc: string;
  /** How the two profiles have it, where it is a matter of yes or no, or of a number. */
  readonly remora: string | undefined;
  readonly qemu: string | undefined;
  /** What a guest sees of QEMU 10.2. */
  readonly seen: string;
}

export interface BehaviourChapter {
  /** Name of its file, without endings. */
  readonly name: string;
  /** What its file is about, as the file says. */
  readonly title: string;
  readonly differences: readonly BehaviourDifference[];
}

/** All of them, by the files that have their guest programs. @throws Error if a flag has none. */
export function behaviourChapters(repository: string): BehaviourChapter[] {
  const source = parse(join(repository, DEVICE, 'behaviour.ts'));
  const docs = interfaceDocs(source, 'Behaviour');
  const remora = constantValues(source, 'SPECIFICATION');
  const qemu = constantValues(source, 'QEMU_10_2');
  const folder = join(repository, DEVICE, 'compat');
  const files = readdirSync(folder).filter(name => PROGRAMS.test(name));
  const chapters = files.map(name => {
    const file = parse(join(folder, name));
    const differences = [...seenBy(file)].map(([flag, seen]): BehaviourDifference => {
      const doc = docs.get(flag);
      if (doc === undefined) throw new Error(`${name}: ${flag} is no flag of Behaviour`);
      docs.delete(flag);
      return { flag, doc, remora: remora.get(flag), qemu: qemu.get(flag), seen };
    });
    return { name: name.replace('.test.helper.ts', ''), title: titleOf(file), differences };
  });
  if (docs.size > 0) throw new Error(`no guest program shows ${[...docs.keys()].join(', ')}`);
  return chapters;
}

function parse(path: string): ts.SourceFile {
  return ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.Latest, true);
}

/** The comment that a file begins with. */
function titleOf(file: ts.SourceFile): string {
  return sentence(/^\/\*\*([\s\S]*?)\*\//.exec(file.text)?.[1] ?? '').replace(/\.$/, '');
}

function interfaceDocs(file: ts.SourceFile, name: string): Map<string, string> {
  const interfaces = file.statements.filter(statement => ts.isInterfaceDeclaration(statement));
  return new Map(
    interfaces
      .find(each => each.name.text === name)!
      .members.map(member => {
        const own = docOf(member);
        // What is a whole object is explained with its type.
        const type = ts.isPropertySignature(member) ? member.type?.getText(file) : undefined;
        const doc = own !== '' ? own : docOf(interfaces.find(each => each.name.text === type));
        return [member.name!.getText(file), doc];
      }),
  );
}

function docOf(node: ts.Node | undefined): string {
  if (node === undefined) return '';
  const comments = ts.getJSDocCommentsAndTags(node).map(({ comment }) => ts.getTextOfJSDocComment(comment) ?? '');
  return sentence(comments.join(' '));
}

/** Truth values and numbers of an object. */
function constantValues(file: ts.SourceFile, name: string): Map<string, string> {
  const values = new Map<string, string>();
  for (const property of objectNamed(file, name)) {
    if (!ts.isPropertyAssignment(property)) continue;
    const text = property.initializer.getText(file);
    if (/^(true|false|\d+|0x[0-9a-f_]+)$/.test(text)) values.set(property.name.getText(file), text);
  }
  return values;
}

/** By flag: the `what` of its guest program. */
function seenBy(file: ts.SourceFile): Map<string, string> {
  const seen = new Map<string, string>();
  for (const statement of file.statements) {
    if (!ts.isVariableStatement(statement)) continue;
    for (const { type, name } of statement.declarationList.declarations) {
      if (type?.getText(file) !== 'Departures') continue;
      for (const property of objectNamed(file, name.getText(file))) {
        const what = ts.isPropertyAssignment(property) ? textOf(property.initializer) : undefined;
        if (what === undefined) throw new Error(`${file.fileName}: ${property.getText(file).slice(0, 40)}: no "what"`);
        seen.set(property.name!.getText(file), what);
      }
    }
  }
  return seen;
}

function textOf(departure: ts.Expression): string | undefined {
  if (!ts.isObjectLiteralExpression(departure)) return undefined;
  for (const property of departure.properties) {
    if (!ts.isPropertyAssignment(property) || property.name.getText() !== 'what') continue;
    return ts.isStringLiteralLike(property.initializer) ? property.initializer.text : undefined;
  }
  return undefined;
}

function objectNamed(file: ts.SourceFile, name: string): readonly ts.ObjectLiteralElementLike[] {
  for (const statement of file.statements) {
    if (!ts.isVariableStatement(statement)) continue;
    for (const declaration of statement.declarationList.declarations) {
      const { initializer } = declaration;
      if (
        declaration.name.getText(file) === name &&
        initializer !== undefined &&
        ts.isObjectLiteralExpression(initializer)
      )
        return initializer.properties;
    }
  }
  throw new Error(`${file.fileName} has no object ${name}`);
}

/** In one line. */
function sentence(text: string): string {
  return text.replace(/\s*\n\s*\*?\s*/g, ' ').trim();
}
