// The search runs in a Worker, which browsers refuse to pages opened from a disk: here in a hidden frame.
if (location.protocol === "file:")
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.frame = document.body.appendChild(document.createElement("iframe"))
      this.frame.hidden = true
      const { contentWindow: inside, contentDocument: page } = this.frame
      inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
      const script = page.createElement("script")
      this.ready = new Promise(resolve => { script.onload = () => resolve(inside) })
      script.src = new URL(url, location)
      page.body.append(script)
    }
    async postMessage(data) {
      (await this.ready).dispatchEvent(new MessageEvent("message", { data }))
    }
    terminate() { this.frame.remove() }
  }
