// Drives a headless browser through one page and says in JSON what the page saw.
// Usage: NODE_PATH=… node browser_drive.cjs URL PIN
const { chromium } = require('playwright-core')

const [url, pin] = process.argv.slice(2)

// Runs inside the page.
async function visit () {
  const until = (what, milliseconds) => Promise.race([
    what,
    new Promise((resolve, reject) => setTimeout(() => reject(new Error('waited in vain')), milliseconds))
  ])
  const protocol = name => performance.getEntriesByName(new URL(name, location.href).href).at(-1).nextHopProtocol
  const hex = buffer => [...new Uint8Array(buffer)].map(byte => byte.toString(16).padStart(2, '0')).join('')

  async function chat () {
    const socket = new WebSocket(new URL('/chat', location.href.replace('https', 'wss')))
    socket.binaryType = 'arraybuffer'
    const came = []
    const waiting = []
    socket.onmessage = event => waiting.length ? waiting.shift()(event.data) : came.push(event.data)
    const next = () => until(came.length ? came.shift() : new Promise(resolve => waiting.push(resolve)), 10000)
    const greeting = await next()
    const echoes = []
    for (const message of ['hello', '', 'x'.repeat(200000), '\u{1f9ea}', new Uint8Array(300000).fill(7)]) {
      socket.send(message)
      const echo = await next()
      echoes.push(typeof message === 'string' ? echo === message : hex(echo) === hex(message))
    }
    const closed = new Promise(resolve => { socket.onclose = event => resolve([event.code, event.wasClean]) })
    socket.close(1000)
    return { greeting, echoes, close: await until(closed, 10000) }
  }

  async function listen () {
    const source = new EventSource('/events')
    const events = []
    const ended = new Promise(resolve => {
      source.onmessage = event => { events.push(event.data); fetch('/seen') }
      source.onerror = resolve
    })
    await until(ended, 10000)
    source.close()
    return { events }
  }

  async function send () {
    const body = new Uint8Array(3000000).map((_, place) => place * 7)
    const answer = await fetch('/upload', { method: 'POST', body })
    const seen = await answer.text()
    return { upload: [protocol('/upload'), seen, hex(await crypto.subtle.digest('SHA-256', body))] }
  }

  return Object.assign({}, ...await Promise.all([chat(), listen(), send()]))
}

async function main () {
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    headless: true,
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
      '--disable-background-networking', '--disable-component-update',
      `--ignore-certificate-errors-spki-list=${pin}`
    ]
  })
  try {
    const page = await browser.newPage()
    const complaints = []
    page.on('console', said => { if (said.type() === 'error') complaints.push(said.text()) })
    page.on('pageerror', error => complaints.push(String(error)))
    const answer = await page.goto(url, { timeout: 20000 })
    const protocol = await page.evaluate(() => performance.getEntriesByType('navigation')[0].nextHopProtocol)
    const seen = await page.evaluate(visit)
    seen.page = [protocol, answer.status(), await page.title(), await page.textContent('p')]
    console.log(JSON.stringify({ ...seen, complaints }))
  } finally {
    await browser.close()
  }
}

main().catch(error => {
  console.error(error)
  process.exitCode = 1
})
