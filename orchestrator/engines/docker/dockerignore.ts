/**
 * `.dockerignore`: one pattern a line, relative to the context; `*` and `?` within a name, `**` over folders, `!` brings
 * back, the last line that matches decides. A pattern that matches a folder covers what is in it.
 * (https://docs.docker.com/build/concepts/context/#dockerignore-files)
 */
export type Ignored = (path: string, isFolder: boolean) => boolean

export function parseIgnore(text: string): Ignored {
  const rules = text.split(/\r?\n/).flatMap((line) => {
    const trimmed = line.trim()
    if (trimmed === '' || line.startsWith('#')) return []
    const keep = trimmed.startsWith('!')
    const pattern = clean(keep ? trimmed.slice(1).trim() : trimmed)
    return pattern === '' ? [] : [{ keep, matches: new RegExp(`^${toRegExp(pattern)}(/|$)`) }]
  })
  const bringsBack = rules.some(({ keep }) => keep)
  return (path, isFolder) => {
    // A folder may hold something that a later line brings back: it is looked into, and its files decide.
    if (isFolder && bringsBack) return false
    let ignored = false
    for (const { keep, matches } of rules) if (matches.test(path)) ignored = !keep
    return ignored
  }
}

const clean = (pattern: string): string =>
  pattern
    .replace(/^\.?\/+/, '')
    .replace(/\/+$/, '')
    .replace(/\/{2,}/g, '/')

function toRegExp(pattern: string): string {
  let source = ''
  for (let at = 0; at < pattern.length; at += 1) {
    const rest = pattern.slice(at)
    if (rest.startsWith('**/')) {
      source += '(.*/)?'
      at += 2
    } else if (rest.startsWith('**')) {
      source += '.*'
      at += 1
    } else if (rest.startsWith('*')) source += '[^/]*'
    else if (rest.startsWith('?')) source += '[^/]'
    else if (rest.startsWith('\\') && rest.length > 1) {
      source += quote(rest[1] ?? '')
      at += 1
    } else source += quote(rest[0] ?? '')
  }
  return source
}

const quote = (text: string): string => text.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&')
