/** `node tools/dist/differences/main.js`: writes the document of what differs from QEMU. */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { differencesDocument, DOCUMENT } from './document.js';

const repository = fileURLToPath(new URL('../../../', import.meta.url));
writeFileSync(`${repository}${DOCUMENT}`, differencesDocument(repository));
