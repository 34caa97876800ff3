import { BerthError, type ErrorDetails } from '../domain/errors.ts'

/** One thing wrong with a document or an environment variable. Lines and columns count from 1. */
export interface Problem {
  /** Path of the file, or `environment` for a variable. */
  readonly file: string
  readonly line?: number
  readonly column?: number
  /** `models.minilm.module`; empty for the document as a whole. */
  readonly field: string
  /** What is wrong and what to do about it. */
  readonly message: string
}

/** Keys from the document's root; positions in a list are written as numbers. */
export type FieldPath = readonly string[]

/** More than this is one mistake seen many times. */
const shown = 50

/** `models.minilm.args[0]`, and `models["a.b"]` for names that are not plain. */
export function fieldName(path: FieldPath): string {
  let text = ''
  for (const part of path) {
    if (/^\d+$/.test(part)) text += `[${part}]`
    else if (/^[\w-]+$/.test(part)) text += text === '' ? part : `.${part}`
    else text += `[${JSON.stringify(part)}]`
  }
  return text
}

/** `berth.yaml:3:5: listen: ...` */
export function describeProblem(problem: Problem): string {
  const place = [problem.file, problem.line, problem.column].filter((part) => part !== undefined).join(':')
  return [place, problem.field, problem.message].filter((part) => part !== '').join(': ')
}

/** In the order in which somebody reads the document; what has no place in it comes last. */
function byPlace(a: Problem, b: Problem): number {
  const last = Number.POSITIVE_INFINITY
  return (a.line ?? last) === (b.line ?? last)
    ? (a.column ?? last) - (b.column ?? last) || 0
    : (a.line ?? last) - (b.line ?? last)
}

/** One error that says all of them; `details.problems` holds them as data, the first one's place stands beside it. */
export function problemsError(
  code: 'CONFIG_INVALID' | 'MANIFEST_INVALID',
  subject: string,
  unordered: readonly Problem[],
  details: ErrorDetails = {},
): BerthError {
  const problems = [...unordered].sort(byPlace)
  const lines = problems.slice(0, shown).map((problem) => `  ${describeProblem(problem)}`)
  if (problems.length > shown) lines.push(`  and ${problems.length - shown} more`)
  const count = problems.length === 1 ? 'a problem' : `${problems.length} problems`
  const first = problems[0]
  return new BerthError(code, `${subject} has ${count}:\n${lines.join('\n')}`, {
    ...details,
    ...(first === undefined ? {} : { file: first.file, field: first.field }),
    ...(first?.line === undefined ? {} : { line: first.line, column: first.column }),
    problems: problems.slice(0, shown),
  })
}
