import tseslint from 'typescript-eslint';
import { plugin as remora } from './tools/dist/lint/index.js';

export default tseslint.config(
  { ignores: ['**/dist/', '**/node_modules/', 'docs/api/'] },
  ...tseslint.configs.recommended,
  {
    files: ['**/*.ts'],
    plugins: { remora },
    rules: {
      'remora/layers': 'error',
      'remora/log-names': 'error',
      'remora/no-bigint': 'error',
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/consistent-type-imports': 'error',
      eqeqeq: 'error',
      'no-console': 'error',
    },
  },
);
